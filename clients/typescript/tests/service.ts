/** Helper: the running service that the tests call, and its provider. */
import { EsimStatus } from 'esim-status-client';

function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is missing: run the tests with npm test`);
  return value;
}

export const baseUrl = setting('ESIM_STATUS_URL');
export const apiKey = setting('ESIM_STATUS_API_KEY');

/** A backend's client. */
export const client = new EsimStatus({ baseUrl, apiKey });

/** The ICCID of a profile that no other test uses. */
export function newIccid(): string {
  return `8997212330${Math.floor(Math.random() * 1e10).toString().padStart(10, '0')}`;
}

/** Registers a profile that is ready to be installed, and returns its ICCID. */
export async function newProfile(more: { reference?: string } = {}): Promise<string> {
  const iccid = newIccid();
  await client.register(iccid, {
    iccid, state: 'RELEASED', activationCode: 'LPA:1$rsp.example.com$JQ-209U6H-6I82J5', imsi: '260060145143896', ...more,
  });
  return iccid;
}

/** Sends a webhook, as the provider does, and returns its outcome. */
export async function report(iccid: string, profileState: string): Promise<string> {
  const body = JSON.stringify({ iccid, profileState });
  const answer = await fetch(setting('ESIM_STATUS_WEBHOOK_URL'), { method: 'POST', body });
  return (await answer.json() as { outcome: string }).outcome;
}

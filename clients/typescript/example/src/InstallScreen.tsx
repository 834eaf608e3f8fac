import { useEffect, useState } from 'react';
import { qrCode } from 'esim-status-client/browser';
import { useEsim, type Esim, type Progress } from 'esim-status-client/react';

interface Access {
  token: string;
  baseUrl: string;
}

/** What the shop says about the connection. */
const STATUS: Record<Esim['status'], string> = {
  connecting: 'Connecting…',
  live: 'Live',
  polling: 'Checking every few seconds',
  reconnecting: 'Reconnecting…',
  unknown: 'We do not see this eSIM yet',
  expired: 'This page has expired',
};

/** Leads a user to an installed eSIM, and follows along. */
export function InstallScreen({ token, baseUrl, onRenew }: Access & { onRenew: () => void }) {
  const { journey, status, error, report } = useEsim(token, { baseUrl });

  useEffect(() => {
    if (journey) report('opened');
  }, [journey, report]);

  return (
    <section aria-busy={!journey}>
      <div aria-live="polite">
        <h1>{journey?.title ?? 'Looking up your eSIM…'}</h1>
        <p>{journey?.detail}</p>
      </div>
      {journey?.install && (
        <>
          <QrCode token={token} baseUrl={baseUrl} report={report} />
          <SetupLink links={journey.install.links} report={report} />
          <dl>
            <dt>SM-DP+ address</dt><dd><code>{journey.install.smdpAddress}</code></dd>
            <dt>Activation code</dt><dd><code>{journey.install.matchingId}</code></dd>
          </dl>
        </>
      )}
      <ol>{journey?.steps.map((step) => <Step key={step.key} step={step} />)}</ol>
      <p className="status">{STATUS[status]}{error && ` (${error.code})`}</p>
      {status === 'expired' && <button onClick={onRenew}>Go on</button>}
    </section>
  );
}

function Step({ step: { key, status } }: { step: Progress }) {
  return <li className={status} aria-current={status === 'current' ? 'step' : undefined}>{key}</li>;
}

/** The QR code. It is a credential, so it is fetched with the token and has no address of its own. */
function QrCode({ token, baseUrl, report }: Access & Pick<Esim, 'report'>) {
  const [image, setImage] = useState('');

  useEffect(() => {
    const leaving = new AbortController();
    let address = '';
    qrCode(token, { baseUrl, signal: leaving.signal }).then((blob) => {
      if (leaving.signal.aborted) return;
      address = URL.createObjectURL(blob);
      setImage(address);
      report('qr-shown');
    }).catch(() => {});
    return () => {
      leaving.abort();
      URL.revokeObjectURL(address);
    };
  }, [token, baseUrl, report]);

  return image && <img src={image} alt="QR code that holds the activation code of your eSIM" width={240} height={240} />;
}

/** The link that opens the phone's own setup, on phones. */
function SetupLink({ links, report }: { links: { apple: string; android: string } } & Pick<Esim, 'report'>) {
  const { userAgent } = navigator;
  const href = /iPhone|iPad/.test(userAgent) ? links.apple : /Android/.test(userAgent) && links.android;
  return href && <p><a className="button" href={href} onClick={() => report('link-tapped')}>Install on this phone</a></p>;
}

import { useCallback, useEffect, useState } from 'react';
import { InstallScreen } from './InstallScreen.js';

/** What the shop's backend answers. */
interface Access {
  token: string;
  baseUrl: string;
}

/** An order. Gets an access token from the shop's own backend, and a new one when it has expired. */
export function Order({ number }: { number: string }) {
  const [access, setAccess] = useState<Access | null>(null);
  const [isFailed, setFailed] = useState(false);

  const renew = useCallback((signal?: AbortSignal) => {
    setFailed(false);
    fetch(`/api/orders/${number}/token`, { method: 'POST', signal: signal ?? null })
      .then(async (response) => {
        if (!response.ok) throw new Error(`answered ${response.status}`);
        setAccess(await response.json() as Access);
      })
      .catch(() => signal?.aborted || setFailed(true));
  }, [number]);

  useEffect(() => {
    const leaving = new AbortController();
    renew(leaving.signal);
    return () => leaving.abort();
  }, [renew]);

  return (
    <main>
      <p>Order {number}</p>
      {isFailed && <p role="alert">Your order could not be loaded. <button onClick={() => renew()}>Try again</button></p>}
      {access && <InstallScreen {...access} onRenew={() => renew()} />}
    </main>
  );
}

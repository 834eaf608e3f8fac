// Keeps the page of a profile up to date. Without it, the page reloads itself once a minute.

const PAUSE = 5000;

// A form leads away. What it does may change this page too, and renewing that would overtake the answer to the form.
const leaving = new AbortController();
const { signal } = leaving;
addEventListener('submit', () => leaving.abort());
// The way back may lead to this very document.
addEventListener('pageshow', (event) => event.persisted && location.reload());

const pause = () => new Promise((done) => setTimeout(done, PAUSE));

// Replacing what has the focus would take it away from its user.
const idle = (element) => new Promise((done) => {
  const look = () => element.contains(document.activeElement)
    ? element.addEventListener('focusout', () => setTimeout(look), { once: true })
    : done();
  look();
});

async function renew(live) {
  const response = await fetch(location.pathname, { redirect: 'manual', signal });
  if (response.status !== 200) return location.reload();
  const text = await response.text();
  const news = new DOMParser().parseFromString(text, 'text/html').querySelector('#live');
  await idle(live);
  live.replaceWith(news);
  document.querySelector('#news').textContent = 'The page was updated just now.';
}

async function follow() {
  for (;;) {
    const live = document.querySelector('#live');
    if (!live) return;
    try {
      const response = await fetch(live.dataset.changes, { redirect: 'manual', signal });
      if (response.status === 200) await renew(live);
      // The session has ended.
      else if (response.type === 'opaqueredirect') return location.reload();
      else if (response.status !== 204) await pause();
    } catch {
      if (signal.aborted) return;
      await pause();
    }
  }
}

follow();

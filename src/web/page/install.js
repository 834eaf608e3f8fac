/**
 * The install page: an `<esim-install>` for the access token in this page's fragment, in the brand's colour.
 *
 * Browsers never send the fragment to a server, nor to linked pages. It stays in the address so that a reload works.
 */

import './esim-status.js';

const setting = (name) => document.querySelector(`meta[name="brand-${name}"]`)?.content.trim() ?? '';
const token = () => location.hash.slice(1);

const color = setting('color');
if (color) {
  document.documentElement.style.setProperty('--esim-color', color);
  const path = `<path fill="${color}" d="M3 1h6l4 4v9a1 1 0 0 1-1 1H4a1 1 0 0 1-1-1z"/>`;
  const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">${path}</svg>`;
  document.querySelector('link[rel="icon"]').href = `data:image/svg+xml,${encodeURIComponent(icon)}`;
}

const install = document.createElement('esim-install');
install.setAttribute('token', token());
install.setAttribute('heading-level', '1');
install.setAttribute('support-url', setting('support-url'));
// What the page says without it stays until it has its texts.
const early = [...document.querySelector('main').childNodes];
install.style.display = 'none';
install.addEventListener('esim-language', ({ detail }) => {
  if (detail.language !== document.documentElement.lang) {
    // The texts of the page's language could not be loaded: all of the page in the other one.
    location.replace(`?lang=${detail.language}${location.hash}`);
    return;
  }
  early.forEach((node) => node.remove());
  install.style.display = '';
}, { once: true });
document.querySelector('main').append(install);

const name = document.title;
install.addEventListener('esim-change', ({ detail }) => { document.title = `${detail.title} · ${name}`; });
install.addEventListener('esim-expired', () => { document.title = name; });

// If another install link is opened in this tab, only the fragment changes.
addEventListener('hashchange', () => install.setAttribute('token', token()));

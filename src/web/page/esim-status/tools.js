/** Helpers of the element. Part of esim-status.js. */

/** Adds the style sheet to a shadow root, then calls `done`. */
function dress(root, base, done) {
  try {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(LOOK);
    root.adoptedStyleSheets = [sheet];
    if (root.adoptedStyleSheets.length) return done();
  } catch {
    // Safari before 16.4 and Firefox before 101 have no constructable style sheets.
  }
  const link = h('link', { rel: 'stylesheet', href: new URL('assets/esim-status.css', base).href, load: done });
  root.prepend(link);
}

const ICONS = {
  check: 'M5 12.5l4.5 4.5L19 7.5',
  alert: 'M12 6.5v7M12 17.4v.2',
  phone: 'M8 3h8a1.5 1.5 0 0 1 1.5 1.5v15A1.5 1.5 0 0 1 16 21H8a1.5 1.5 0 0 1-1.5-1.5v-15A1.5 1.5 0 0 1 8 3zM11 18h2',
  clock: 'M12 7v5.3l3.4 2M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z',
};

/** Luminance by WCAG of `[red, green, blue]`, each 0 to 255. */
function luminance(color) {
  const [red, green, blue] = color.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

function contrast(one, other) {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}

/** The colour, moved towards `end` until it is readable on `ground`. */
function readable(color, ground, end) {
  let mixed = color;
  for (let share = 0; share <= 1 && contrast(mixed, ground) < 5.2; share += 0.04) {
    mixed = color.map((part, index) => Math.round(part + (end - part) * share));
  }
  return `rgb(${mixed.join(' ')})`;
}

/** The CSS properties that make text readable on the brand's colour, and in the brand's colour, whatever colour that is. */
function tints(css) {
  const color = (/^rgba?\(([^)]+)\)$/.exec(css)?.[1] ?? '').split(/[ ,/]+/).slice(0, 3).map(Number);
  if (color.length < 3 || color.some(Number.isNaN)) return {};
  const [onLight, onDark] = [readable(color, [255, 255, 255], 0), readable(color, [24, 27, 33], 255)];
  const hasSchemes = CSS.supports('color: light-dark(#000, #fff)');
  return {
    '--_computed-on': contrast(color, [255, 255, 255]) >= 4.5 ? '#fff' : '#000',
    '--_computed-ink': hasSchemes ? `light-dark(${onLight}, ${onDark})` : onLight,
  };
}

function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'function') element.addEventListener(name, value);
    else if (value || value === 0) element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...children.flat().filter((child) => child || child === 0));
  return element;
}

/** Sets a text only if it differs, so that no selection is lost and nothing is read out twice. */
function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function icon(name) {
  const make = (tag, attributes) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const svg = make('svg', {
    viewBox: '0 0 24 24', fill: 'none', stroke: 'currentColor', 'stroke-width': 2, 'stroke-linecap': 'round',
    'stroke-linejoin': 'round', 'aria-hidden': 'true',
  });
  svg.append(make('path', { d: ICONS[name] }));
  return svg;
}

/** An address of support that a link may lead to. */
function supportLink(text) {
  try {
    const url = new URL(text);
    return ['https:', 'http:', 'mailto:', 'tel:'].includes(url.protocol) ? url.href : '';
  } catch {
    return '';
  }
}

function numbered(texts) {
  return h('ol', { class: 'numbered', role: 'list' }, texts.map((text) => h('li', {}, h('span', {}, text))));
}

/** Copies a text. If the browser forbids that, selects the element that shows it and returns false. */
async function copy(text, shown) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const range = document.createRange();
    range.selectNodeContents(shown);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return document.execCommand('copy');
  }
}

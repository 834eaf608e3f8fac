
/** The element itself, the last part of esim-status.js. */

/** Icon and tone of each step, including the page's own steps. */
const FACES = {
  loading: ['clock', 'calm'], wait: ['clock', 'calm'], install: ['phone', 'calm'], reinstall: ['phone', 'calm'],
  finish: ['phone', 'calm'], 'turn-on': ['phone', 'calm'], done: ['check', 'good'], 'contact-support': ['alert', 'bad'],
  expired: ['clock', 'bad'], missing: ['alert', 'bad'], unknown: ['clock', 'calm'], unreachable: ['alert', 'calm'],
};

const UNITS = [['day', 86400], ['hour', 3600], ['minute', 60]];

/** How often the page looks after its user has said that the eSIM is installed, and when it says that nothing came. */
const [LOOK_EVERY, LOOKED_LONG] = [10 * SECOND, 150 * SECOND];

/**
 * `<esim-install token="…">`: the way to an installed eSIM, kept up to date.
 *
 * Attributes: `token`; `base` where the service is elsewhere than this module; `support-url`; `heading-level` (2); `lang`,
 * by default that of the page around it, or else the browser's. Members: `words`, to replace texts. Events: `esim-change`
 * (`detail` is the journey), `esim-expired`: set a fresh `token`.
 */
class EsimInstall extends (globalThis.HTMLElement ?? Object) {
  static observedAttributes = ['token', 'base', 'support-url', 'lang'];

  /** The texts of the language, null until they are loaded; what the page replaces; and both together. */
  #texts = null;
  #replaced = {};
  #words = ENGLISH;
  #language = 'en';
  #device = null;
  /** The phone whose steps are shown, and whether the user has chosen it. */
  #phone = 'other';
  #isChosen = false;
  #parts = null;
  #following = null;
  #journey = null;
  /** What `#show` was last called with. */
  #last = null;
  #shown = {};
  #link = '';
  #clockAhead = 0;
  #isLost = false;
  #reading = false;
  #isWanted = false;
  #pauses = new Pauses();
  #timers = new Set();
  #qr = '';
  #reported = new Set();
  #stop = null;
  #left = null;

  get words() { return this.#words; }

  set words(words) {
    this.#replaced = { ...this.#replaced, ...words };
    this.#merge();
    if (!this.isConnected || !this.#parts) return;
    if (this.#wanted !== this.#language) this.#restart();
    else if (this.#last) this.#show(...this.#last);
  }

  connectedCallback() {
    this.#device = detect();
    if (!this.#isChosen) {
      this.#phone = this.#device.phone;
      phoneByModel().then((phone) => phone && !this.#isChosen && this.#turnTo(phone));
    }
    this.#build();
    this.#start();
    // A browser may keep a page that was left for the way back, with its stream: six of those, and the next page gets no connection.
    this.#left = new AbortController();
    const { signal } = this.#left;
    globalThis.addEventListener('pagehide', () => this.#end(), { signal });
    globalThis.addEventListener('pageshow', ({ persisted }) => persisted && this.#restart(), { signal });
  }

  disconnectedCallback() {
    this.#left.abort();
    this.#end();
  }

  attributeChangedCallback(_name, before, after) {
    if (this.isConnected && this.#parts && before !== after) this.#restart();
  }

  #restart() {
    this.#end();
    this.#start();
  }

  // Language

  /** The language of ours that suits this element best. */
  get #wanted() {
    const own = languageOf(this.getAttribute('lang') ?? '');
    if (own) return own;
    // Of a language that is not ours, the page has the texts, and what it leaves out is English.
    if (this.#replaced.language) return languageOf(this.#replaced.language) ?? 'en';
    const around = this.parentElement?.closest('[lang]')?.lang || document.documentElement.lang;
    return preferred([around, ...navigator.languages ?? []]);
  }

  /** What the page replaces counts in every language; under `languages`, in one. */
  #merge() {
    const { languages = {}, ...everywhere } = this.#replaced;
    this.#words = [everywhere, languages[this.#language] ?? {}].reduce(merged, this.#texts ?? ENGLISH);
    this.#shown = {};
  }

  /** Loads the texts. Nothing is shown before, because it would be in another language. */
  async #speak() {
    const { signal } = this.#stop;
    if (this.#texts && this.#language === this.#wanted) return;
    this.#language = this.#wanted;
    this.#texts = this.#language === 'en' ? ENGLISH : null;
    if (!this.#texts) {
      const texts = await textsOf(this.#base, this.#language, signal).catch(() => null);
      if (signal.aborted) return;
      this.#texts = texts ?? ENGLISH;
      if (!texts) {
        // All of it in English, also what the service says, which has come in the other language.
        this.#language = 'en';
        if (this.#journey) this.#last = [{ step: 'loading' }, null];
        if (this.#following) this.#read();
      }
    }
    this.#merge();
    if (this.#last) this.#show(...this.#last);
    const detail = { language: this.#language };
    this.dispatchEvent(new CustomEvent('esim-language', { detail, bubbles: true, composed: true }));
  }

  // Following and reading

  get #base() { return new URL((this.getAttribute('base') ?? HOME).replace(/\/*$/, '/'), HOME); }

  get #token() { return (this.getAttribute('token') ?? '').trim(); }

  #start() {
    this.#stop = new AbortController();
    this.#pauses = new Pauses();
    this.#reading = false;
    this.#reported.clear();
    this.#journey = null;
    this.#last = null;
    this.#link = '';
    this.#speak();
    if (!this.#token) {
      this.#say('missing');
      return;
    }
    this.#say('loading');
    const { signal } = this.#stop;
    this.#following = follow(this.#token, () => this.#read(), {
      base: this.#base.href,
      onStatus: (status, reason) => signal.aborted || this.#linked(status, reason),
    });
    const look = () => document.visibilityState === 'visible' && this.#read();
    const online = () => { this.#showLink(); this.#pauses.hurry(); };
    const visible = () => { this.#pauses.hurry(); look(); };
    globalThis.addEventListener('online', online, { signal });
    globalThis.addEventListener('offline', online, { signal });
    document.addEventListener('visibilitychange', visible, { signal });
    this.#every(10 * SECOND, () => this.#showHeard());
    // Some updates are no change of the profile: a repeated report, a registration, advice that depends on the time.
    this.#every(60 * SECOND, look);
  }

  #end() {
    this.#stop?.abort();
    this.#following?.close();
    this.#pauses.end();
    this.#timers.forEach(clearTimeout);
    this.#timers.clear();
    this.#following = null;
    this.#forgetQr();
  }

  #every(time, work) {
    const timer = setInterval(work, time);
    this.#timers.add(timer);
  }

  #after(time, work) {
    const timer = setTimeout(() => { this.#timers.delete(timer); work(); }, time);
    this.#timers.add(timer);
  }

  #linked(status, reason) {
    if (status === 'stopped') return this.#expire();
    if (reason === 'unknown') this.#say('unknown');
    else if (status !== 'reconnecting') {
      this.#pauses.hurry();
      if (this.#isLost) this.#read();
    }
    this.#link = status;
    // Most interruptions are over before anyone could read about them.
    if (status !== 'reconnecting') return this.#showLink();
    this.#after(1.5 * SECOND, () => {
      if (this.#link !== status) return;
      this.#showLink();
      if (!this.#journey && !reason) this.#say('unreachable');
    });
  }

  #expire() {
    if (this.#stop.signal.aborted) return;
    const steps = this.#journey?.steps;
    this.#end();
    this.#link = '';
    this.#say('expired', { steps });
    if (!this.#texts) {
      // The texts were still being loaded, and are wanted all the same.
      this.#stop = new AbortController();
      this.#speak();
    }
    this.dispatchEvent(new CustomEvent('esim-expired', { bubbles: true, composed: true }));
  }

  /**
   * Reads the journey until it is the newest. If this is called during a read, reads once more, because the answer may
   * be older than the reason for the call. There is only one read at a time. After a failure, only the end of the pause
   * starts the next.
   */
  async #read() {
    this.#isWanted = true;
    if (this.#reading) return;
    this.#reading = true;
    const { signal } = this.#stop;
    for (let failures = 0; this.#isWanted && !signal.aborted;) {
      this.#isWanted = false;
      try {
        const [journey, date] = await within(signal, READ, async (ending) => {
          const path = `v1/profiles/self/journey?lang=${this.#language}`;
          const response = await ask(this.#base, path, this.#token, { signal: ending });
          return [await response.json(), Date.parse(response.headers.get('Date') ?? '')];
        });
        if (signal.aborted) return;
        // If this origin may not read the header `Date`, keep what is known about the clock.
        if (date) this.#clockAhead = Date.now() - date;
        this.#isLost = false;
        failures = 0;
        this.#show(journey);
        this.#report('opened');
        this.dispatchEvent(new CustomEvent('esim-change', { detail: journey, bubbles: true, composed: true }));
      } catch (error) {
        if (signal.aborted) return;
        if (error.status === 401) return this.#expire();
        this.#isWanted = true;
        await this.#pauses.backOff(failures, error.pause);
        failures += 1;
      }
    }
    if (!signal.aborted) this.#reading = false;
  }

  /** Tells the service what the user did. It counts that once for each profile; if it fails, only the count is wrong. */
  #report(intent) {
    if (this.#reported.has(intent)) return;
    this.#reported.add(intent);
    // The user may leave the page before the answer.
    ask(this.#base, `v1/profiles/self/intents/${intent}`, this.#token, { method: 'PUT', keepalive: true }).catch(() => {});
  }

  // Display

  #build() {
    if (this.#parts) return;
    const root = this.attachShadow({ mode: 'open' });
    const level = Math.min(Math.max(Number(this.getAttribute('heading-level')) || 2, 1), 4);
    const part = (tag, name, attributes = {}, ...children) => h(tag, { class: name, part: name, ...attributes }, ...children);
    const parts = {
      announcer: h('p', { class: 'hidden', role: 'status', 'aria-live': 'polite' }),
      notice: part('p', 'notice'),
      badge: part('span', 'badge'),
      title: part(`h${level}`, 'title', { tabindex: -1 }),
      detail: part('p', 'detail'),
      action: part('div', 'action'),
      steps: part('ol', 'steps', { role: 'list' }),
      help: part('div', 'help'),
      link: part('span', 'link'),
      heard: part('span', 'heard'),
      foot: h('div'),
    };
    parts.hero = part('div', 'hero', {}, parts.badge, parts.title, parts.detail);
    parts.pulse = part('p', 'pulse', {}, parts.link, parts.heard);
    parts.card = part('div', 'card', {}, parts.notice, parts.hero, parts.action, parts.steps, parts.help,
      part('div', 'foot', {}, parts.pulse, parts.foot));
    root.append(parts.announcer, parts.card);
    this.#parts = parts;
    dress(root, this.#base, () => {
      parts.card.style.color = 'var(--_color)';
      const computed = tints(getComputedStyle(parts.card).color);
      parts.card.removeAttribute('style');
      for (const [name, value] of Object.entries(computed)) parts.card.style.setProperty(name, value);
    });
  }

  #announce(text) {
    const { announcer } = this.#parts;
    // The same text twice in a row must be announced twice.
    announcer.textContent = '';
    announcer.textContent = text;
  }

  /** Shows one of the page's own steps, which is not from a journey. */
  #say(step, rest = {}) {
    this.#isLost = step === 'unknown' || step === 'unreachable';
    this.#show({ step, ...rest }, null);
  }

  #show(journey, known = journey) {
    const parts = this.#parts;
    this.#journey = known;
    this.#last = [journey, known];
    if (!this.#texts) return;
    const words = this.#words;
    const [face, tone] = FACES[journey.step] ?? FACES.wait;
    const [title, detail] = known ? words.journey?.[journey.step] ?? [journey.title, journey.detail] : words[journey.step];
    const isNews = parts.title.textContent && parts.title.textContent !== title && journey.step !== 'loading';
    const hadFocus = this.shadowRoot.activeElement;
    for (const part of [parts.card, parts.announcer]) {
      part.lang = words.language;
      part.dir = RIGHT_TO_LEFT.includes(words.language) ? 'rtl' : 'ltr';
    }
    parts.hero.className = `hero ${tone}`;
    this.#fill('badge', face, () => [icon(face)]);
    write(parts.title, title);
    write(parts.detail, detail ?? '');
    const howTo = stepsOn(this.#phone, journey.step, words);
    this.#fill('action', [journey.step, journey.install, journey.iccid, howTo && [this.#phone, howTo]], () => {
      return this.#action(journey, howTo);
    });
    this.#fill('steps', journey.steps, () => (journey.steps ?? []).map((step) => this.#step(step)));
    parts.steps.setAttribute('aria-label', words.progress);
    this.#fill('help', [journey.step, Boolean(journey.install)], () => this.#help(journey));
    this.#fill('foot', [journey.step, journey.iccid, this.#support(journey)], () => this.#foot(journey));
    this.#showLink();
    this.#showHeard();
    if (isNews) this.#announce(`${title}. ${detail ?? ''}`);
    // If the focused element is gone, move the focus to what replaced it.
    if (hadFocus && !hadFocus.isConnected) parts.title.focus({ preventScroll: true });
  }

  /** Rebuilds a part only if its content has changed, so that the focus, a selection or an opened detail is not lost. */
  #fill(name, content, build) {
    const key = JSON.stringify(content) ?? '';
    if (this.#shown[name] === key) return;
    this.#shown[name] = key;
    this.#parts[name].replaceChildren(...build().filter(Boolean));
  }

  #action(journey, howTo) {
    const { step, install } = journey;
    this.#forgetQr();
    if (install) return this.#install(install);
    if (howTo) return [this.#howTo(howTo)];
    if (step === 'contact-support') return this.#callSupport(journey);
    if (step === 'install' || step === 'reinstall') return [h('p', {}, this.#words.noInstall)];
    return [];
  }

  #install(install) {
    const { system, takesLink, name } = this.#device;
    const words = this.#words;
    const href = takesLink && install.links?.[system];
    const manual = this.#manual(install);
    const note = install.confirmationCodeRequired && h('p', { class: 'muted', part: 'confirmation' }, words.needsConfirmation);
    if (href) {
      return [
        h('a', { class: 'button', part: 'button', href, rel: 'noreferrer', click: () => this.#report('link-tapped') },
          fill(words.button[system], { device: name })),
        h('p', { class: 'muted' }, words.buttonHint[system]),
        note,
        h('details', { part: 'details', toggle: (event) => event.target.open && this.#report('qr-shown') }, h('summary', {}, words.otherWays),
          h('div', { class: 'action' },
            h('p', { class: 'muted' }, words.otherPhone),
            h('div', { class: 'scan' }, this.#qrCode(install)),
            manual)),
      ];
    }
    this.#report('qr-shown');
    return [
      h('div', { class: 'scan' }, this.#qrCode(install), numbered(words.scan)),
      note,
      h('details', { part: 'details', open: true }, h('summary', {}, words.byHand), h('div', { class: 'action' }, manual)),
    ];
  }

  #manual(install) {
    const words = this.#words;
    const names = ['smdpAddress', 'matchingId', 'activationCode'].filter((name) => install[name]);
    return [
      h('p', { class: 'muted' }, words.byHandHint),
      h('dl', { part: 'codes' }, names.map((name) => this.#row(words[name], install[name]))),
    ];
  }

  #row(label, value) {
    const words = this.#words;
    // Allow line breaks in a number of twenty digits between groups of four.
    const pieces = /^\d+$/.test(value) ? value.match(/.{1,4}/g).flatMap((group) => [h('wbr'), group]) : [value];
    const code = h('code', { part: 'code', translate: 'no', dir: 'ltr' }, pieces);
    const said = h('span', {}, words.copy);
    const button = h('button', {
      type: 'button', class: 'copy', part: 'copy',
      click: async () => {
        const isCopied = await copy(value, code);
        this.#announce(fill(isCopied ? words.copiedLabel : words.notCopied, { what: label }));
        if (!isCopied) return;
        said.textContent = words.copied;
        this.#after(2.5 * SECOND, () => { said.textContent = words.copy; });
      },
    }, said, h('span', { class: 'hidden' }, ` ${label}`));
    return h('div', { class: 'row' }, h('dt', {}, label), h('dd', {}, code, button));
  }

  /** The QR code, once it is loaded. It is a credential, so it has no plain address and must be fetched with the token. */
  #qrCode(install) {
    const words = this.#words;
    const figure = h('div', { class: 'qr', part: 'qr' });
    const { signal } = this.#stop;
    ask(this.#base, install.qr, this.#token, { signal }).then((response) => response.blob()).then((blob) => {
      if (signal.aborted || !figure.isConnected) return;
      this.#forgetQr();
      this.#qr = URL.createObjectURL(blob);
      figure.replaceChildren(h('img', { src: this.#qr, alt: words.qr, width: 240, height: 240 }));
    }).catch(() => signal.aborted || figure.replaceChildren(h('p', {}, words.noQr)));
    return figure;
  }

  #forgetQr() {
    if (this.#qr) URL.revokeObjectURL(this.#qr);
    this.#qr = '';
  }

  #howTo(steps) {
    const words = this.#words;
    const choice = h('select', {
      part: 'phone',
      change: ({ target }) => { this.#isChosen = true; this.#turnTo(target.value); },
    }, PHONES.map((phone) => h('option', { value: phone, selected: phone === this.#phone }, words.phones[phone])));
    return h('div', { class: 'how-to', part: 'how-to' },
      h('label', { class: 'phone' }, h('span', {}, words.phone), choice),
      numbered(steps));
  }

  /** Shows the steps of another phone. */
  #turnTo(phone) {
    if (phone === this.#phone) return;
    this.#phone = phone;
    const hadFocus = this.shadowRoot?.activeElement?.localName === 'select';
    if (this.#last) this.#show(...this.#last);
    if (hadFocus) this.shadowRoot.querySelector('select')?.focus();
  }

  #support(journey) {
    return supportLink(journey.supportUrl || this.getAttribute('support-url') || '');
  }

  #callSupport(journey) {
    const href = this.#support(journey);
    return [
      href
        ? h('a', { class: 'button', part: 'button', href, rel: 'noreferrer' }, this.#words.support)
        : h('p', {}, this.#words.noSupport),
      journey.iccid && h('p', { class: 'muted' }, this.#words.quote),
      journey.iccid && h('dl', { part: 'codes' }, this.#row(this.#words.iccid, journey.iccid)),
    ];
  }

  #step({ key, status, at }) {
    const words = this.#words;
    const mark = { done: 'check', problem: 'alert' }[status];
    return h('li', { class: status, part: 'step', 'aria-current': status === 'current' && 'step' },
      h('span', { class: 'dot' }, mark && icon(mark)),
      h('span', { class: 'name' }, words.steps[key]?.[status === 'done' ? 0 : 1] ?? key,
        h('span', { class: 'hidden' }, `, ${words.statuses[status] ?? status}`)),
      at && this.#time(at));
  }

  #help(journey) {
    if (!journey.iccid || journey.step === 'wait') return [];
    const isAwaited = ['install', 'reinstall', 'finish'].includes(journey.step);
    return [...isAwaited ? this.#wait(journey.step) : [], this.#answers(journey)];
  }

  /** The button of a user who has installed the eSIM. From then on the page looks often, and says so. */
  #wait(step) {
    const words = this.#words;
    const said = h('p', { class: 'muted', part: 'looking' });
    const say = (text) => {
      if (said.textContent === text) return;
      write(said, text);
      this.#announce(text);
    };
    const { signal } = this.#stop;
    const look = (since) => {
      if (signal.aborted || !said.isConnected || this.#journey?.step !== step) return;
      // From then on the page looks as seldom as before.
      if (performance.now() - since >= LOOKED_LONG) return say(words.notYet);
      say(words.looking);
      if (document.visibilityState === 'visible') this.#read();
      this.#after(LOOK_EVERY, () => look(since));
    };
    const button = h('button', {
      type: 'button', class: 'copy wide', part: 'installed-it',
      click: () => {
        button.setAttribute('aria-disabled', 'true');
        if (!said.textContent) look(performance.now());
      },
    }, words.installedIt);
    return [button, said];
  }

  /** What to do about what the phone says. */
  #answers(journey) {
    const words = this.#words;
    const answer = h('p', { class: 'answer', part: 'answer' });
    const choose = ({ target }) => {
      write(answer, words.answers[answerTo(target.value, journey)]);
      this.#announce(answer.textContent);
    };
    return h('details', { part: 'details' }, h('summary', {}, words.says),
      h('fieldset', {}, h('legend', { class: 'hidden' }, words.says),
        MESSAGES.map((message) => h('label', {},
          h('input', { type: 'radio', name: 'message', value: message, change: choose }), h('span', {}, words.messages[message])))),
      answer);
  }

  #foot(journey) {
    if (journey.step === 'contact-support') return [];
    const href = this.#support(journey);
    return [
      journey.iccid && h('dl', {}, this.#row(this.#words.iccid, journey.iccid)),
      href && h('a', { href, rel: 'noreferrer' }, this.#words.support),
    ];
  }

  #showLink() {
    if (!this.#texts) return;
    const { link, notice } = this.#parts;
    const isOffline = navigator.onLine === false && this.#link !== '';
    const state = isOffline ? 'offline' : this.#link;
    link.className = `link ${state}`;
    write(link, this.#words.status[state] ?? '');
    link.hidden = !link.textContent;
    const isNews = isOffline && !notice.textContent;
    write(notice, isOffline ? this.#words.offline : '');
    // The notice is hidden while it is empty, and screen readers do not announce an element that appears together with
    // its text.
    if (isNews) this.#announce(this.#words.offline);
  }

  #showHeard() {
    if (!this.#texts) return;
    const { heard } = this.#parts;
    const journey = this.#journey;
    const words = this.#words;
    const text = journey?.lastDeliveryAt ? fill(words.heard, { age: this.#age(journey.lastDeliveryAt) }) : words.unheard;
    write(heard, journey ? text : '');
    heard.title = journey?.lastDeliveryAt ? this.#format(journey.lastDeliveryAt) : '';
  }

  /** The user's variety of the language, for numbers and dates. The digits are those of the codes, also in Arabic. */
  #locale() {
    const { language } = this.#words;
    return navigator.languages?.find((tag) => languageOf(tag) === language) ?? language;
  }

  #age(at) {
    const seconds = Math.max(0, (Date.now() - this.#clockAhead - Date.parse(at)) / SECOND);
    if (seconds < 45) return this.#words.justNow;
    const format = new Intl.RelativeTimeFormat(this.#locale(), { numeric: 'always', numberingSystem: 'latn' });
    const [unit, size] = UNITS.find(([, length]) => seconds >= length * 0.95) ?? UNITS[UNITS.length - 1];
    return format.format(-Math.max(1, Math.round(seconds / size)), unit);
  }

  #format(at) {
    const date = new Date(at);
    const isToday = date.toDateString() === new Date().toDateString();
    const day = isToday ? {} : { day: 'numeric', month: 'short' };
    return new Intl.DateTimeFormat(this.#locale(), {
      ...day, hour: 'numeric', minute: '2-digit', numberingSystem: 'latn',
    }).format(date);
  }

  #time(at) {
    return h('time', { datetime: at }, this.#format(at));
  }
}

if (globalThis.customElements && !customElements.get('esim-install')) customElements.define('esim-install', EsimInstall);

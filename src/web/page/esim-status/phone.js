
/** Which phone this is, its steps, and what to do about what it says. Part of esim-status.js. */

const PHONES = ['apple', 'samsung', 'pixel', 'other'];

/** The phone that a user agent or a model names, if any. */
function phoneOf(text) {
  if (/iPhone|iPad|iPod/.test(text)) return 'apple';
  if (/SamsungBrowser|SAMSUNG|\bSM-[A-Z]\d/.test(text)) return 'samsung';
  return /\bPixel\b/.test(text) ? 'pixel' : null;
}

/**
 * The system whose setup link this device supports (`apple` from iOS 17.4, `android` from 10), whether it is a phone, and
 * which.
 */
function detect({ userAgent, maxTouchPoints = 0 } = navigator) {
  const mobile = /(iPhone|iPad|iPod).* OS (\d+)_(\d+)/.exec(userAgent);
  // An iPad identifies itself as a Mac, and its only OS version is that of its browser.
  const desktop = maxTouchPoints > 1 && /Macintosh.*()Version\/(\d+)\.(\d+)/.exec(userAgent);
  const apple = mobile || desktop;
  if (apple) {
    const takesLink = Number(apple[2]) + Number(apple[3]) / 100 >= 17.04;
    return { isPhone: true, system: 'apple', phone: 'apple', takesLink, name: apple[1] || 'iPad' };
  }
  const phone = phoneOf(userAgent) ?? 'other';
  // Browsers freeze this version at 10, so on older systems the button's hint must suffice.
  const android = /Android (\d+)/.exec(userAgent);
  if (android) return { isPhone: true, system: 'android', phone, takesLink: Number(android[1]) >= 10, name: 'phone' };
  return { isPhone: false, system: null, phone, takesLink: false, name: '' };
}

/**
 * The phone by its model, which Chromium tells only if it is asked. Null where it does not: in other browsers, in web views,
 * and in pages without TLS. It tells more than the user agent: Samsung's browser runs on other phones too.
 */
async function phoneByModel({ userAgentData } = navigator) {
  try {
    const { model } = await userAgentData.getHighEntropyValues(['model']);
    return model ? phoneOf(model) ?? 'other' : null;
  } catch {
    return null;
  }
}

/** The instructions for a step: in the words of the phone's own menus, and in neutral ones where those are not known. */
function stepsOn(phone, step, { howTo, menus }) {
  const { sims, networks, line, roaming } = menus[phone] ?? {};
  const open = (path) => (path ? fill(howTo.open, { path }) : howTo.find);
  const switchOn = (name, neutral) => (name ? fill(howTo.switchOn, { name }) : neutral);
  const steps = {
    finish: [howTo.wifi, open(sims), howTo.setUp],
    'turn-on': [open(sims), howTo.choose, switchOn(line, howTo.line)],
    // Where roaming has its own place, it is switched on for all SIMs there.
    done: [open(networks ?? sims), networks ? null : howTo.choose, switchOn(roaming, howTo.roaming)],
  };
  return steps[step]?.filter(Boolean);
}

const MESSAGES = ['cannot-add', 'code-used', 'locked', 'no-internet'];

/**
 * What to do about a message of the phone: the name of one answer, for each message at each step.
 *
 * What the phone says is met with what the service knows. An eSIM that is installed need not be added again, whatever the
 * phone says. Of one that was loaded, or whose code is refused, nobody but the phone knows whether it is installed.
 */
function answerTo(message, { step, install }) {
  if (message === 'locked') return 'unlock';
  if (message === 'no-internet') {
    if (step === 'done') return 'roaming';
    return { 'turn-on': 'turnOn', 'contact-support': 'support' }[step] ?? 'connect';
  }
  const known = { wait: 'wait', 'turn-on': 'turnOn', done: 'installed', 'contact-support': 'support' }[step];
  // The page has a code to try again with only while the service knows one.
  return known ?? (message === 'cannot-add' && install ? 'restart' : 'lookUp');
}

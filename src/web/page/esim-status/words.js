
/** The element's own texts. Titles and details come from the service. Part of esim-status.js. */

/** English defaults, replaced through the element's member `words`. */
const WORDS = {
  language: 'en',
  /** Title and detail by `step`, instead of the service's. */
  journey: {},
  loading: ['Looking up your eSIM…', ''],
  expired: ['This link has expired', 'For your safety it works for a short time only. Open your eSIM again in the app, the '
    + 'e-mail or the website that brought you here: you get a fresh link there, and nothing is lost.'],
  missing: ['This link is not complete', 'Its last part is missing. Open it again from where you got it, or copy the whole '
    + 'link, to its very end, into the address bar.'],
  unknown: ['We do not see this eSIM yet', 'If you have only just ordered it, leave this page open: it goes on by itself.'],
  unreachable: ['No connection to the service', 'Check that you are online. This page tries again by itself.'],
  offline: 'You are offline. This page goes on by itself when you are back. Installing needs the internet too: Wi-Fi is best.',
  status: { live: 'Live', polling: 'Checking every few seconds', reconnecting: 'Reconnecting…', offline: 'Offline' },
  heard: (age) => `Last heard from the network ${age}`,
  unheard: 'Nothing heard from the network yet',
  justNow: 'just now',
  progress: 'Progress',
  /** The name of each step once it is done, and before. */
  steps: {
    ready: ['Ready to install', 'Prepare'],
    downloaded: ['Downloaded', 'Download'],
    installed: ['Installed', 'Install'],
    'turned-on': ['Turned on', 'Turn on'],
    connected: ['Connected', 'Connect'],
  },
  statuses: { done: 'done', current: 'current step', upcoming: 'not yet', problem: 'needs attention' },
  button: { apple: (device) => `Install on this ${device}`, android: () => 'Install on this phone' },
  buttonHint: {
    apple: 'Nothing happens? Open this page in Safari, or use the code below.',
    android: 'Not every Android phone takes this link. If nothing happens, use the code below.',
  },
  needsConfirmation: 'Your phone will ask for a confirmation code. You got it with your order.',
  noInstall: 'Install it with the QR code or the link that you got with your order.',
  otherWays: 'QR code and details',
  scan: ['Connect your phone to Wi-Fi.', 'Point its camera at this code and tap what appears.', 'Follow the steps on the phone.'],
  otherPhone: 'To install on another phone, point its camera at this code.',
  qr: 'QR code that holds the activation code of your eSIM',
  noQr: 'The QR code could not be loaded: type the details in instead.',
  byHand: 'Type the details in',
  byHandHint: 'In your phone’s settings, add an eSIM and choose to enter the details by hand.',
  smdpAddress: 'SM-DP+ address',
  matchingId: 'Activation code',
  activationCode: 'Both in one line',
  copy: 'Copy',
  copied: 'Copied',
  copiedLabel: (what) => `${what} copied`,
  notCopied: (what) => `${what} is selected: copy it with your keyboard or menu`,
  doubt: ['Installed it, but this page has not changed?', 'Phones report an install when they next talk to the network: mostly '
    + 'within seconds, now and then only after hours. If your phone’s settings list the eSIM, it is installed. Do not delete '
    + 'it to try again: the number of installs is limited.'],
  system: { apple: 'On iPhone and iPad', android: 'On Android' },
  howTo: {
    finish: {
      apple: ['Keep it on Wi-Fi.', 'Open Settings › Cellular (or Mobile Service).', 'Choose the new eSIM and finish its setup.'],
      android: ['Keep it on Wi-Fi.', 'Open Settings › Network & internet › SIMs.', 'Choose the new eSIM and finish its setup.'],
    },
    'turn-on': {
      apple: ['Open Settings › Cellular (or Mobile Service).', 'Choose this eSIM.', 'Switch on “Turn On This Line”.'],
      android: ['Open Settings › Network & internet › SIMs.', 'Choose this eSIM.', 'Switch on “Use SIM”.'],
    },
    done: {
      apple: ['Open Settings › Cellular (or Mobile Service).', 'Choose this eSIM.', 'Switch on “Data Roaming”.'],
      android: ['Open Settings › Network & internet › SIMs.', 'Choose this eSIM.', 'Switch on “Roaming”.'],
    },
  },
  support: 'Contact support',
  noSupport: 'Contact the company that sold you this eSIM.',
  quote: 'Have this number ready: it tells support which eSIM is yours.',
  iccid: 'eSIM number (ICCID)',
};

// Advice for codes in English, where the agent's own speaks of the command line and this window has a better way.

import type { CodeTexts } from "./languages";

export const codesEn: CodeTexts = {
  not_signed_in: { title: "Nobody is signed in", fix: "Sign in on Home." },
  sign_in_cancelled: { title: "The sign-in was cancelled or refused", fix: "Begin again when you like." },
  sign_in_timeout: { title: "The sign-in was not finished in time", fix: "Begin again, and finish in the browser within a few minutes." },
  sign_in_failed: { title: "The provider did not complete the sign-in", fix: "Begin again; if this stays, tell your administrator what stands here." },
  callback_rejected: { title: "This is not the answer of the sign-in under way", fix: "Close that page in the browser and begin again." },
  keyring_unavailable: { title: "No keyring is available to keep secrets in", fix: "Start a keyring (Secret Service, Keychain, Credential Manager), or keep keys in memory for this time." },
  keyring_locked: { title: "The keyring is locked or refused", fix: "Unlock it and try again, or keep keys in memory for this time." },
  relay_untrusted: { title: "The relay's certificate is not trusted", fix: "Check the address with your administrator. Do not go on if you are not sure of this network." },
  agent_not_running: { title: "The agent is not running", fix: "Start it on Home." },
  agent_running: { title: "An agent already runs here", fix: "Use that one, or stop it first." },
  peer_refused: { title: "Another user of this machine owns this agent", fix: "Start an agent of your own." },
  state_dir: { title: "The agent's directory cannot be used", fix: "It must belong to you, and nobody else may write to it." },
  host_refused: { title: "This name does not belong to an app here", fix: "Use the address on the app's card." },
  browser_unavailable: { title: "No browser could be opened", fix: "Set a default browser in the system's settings, then begin again." },
};

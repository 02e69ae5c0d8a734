// The device's state as a list of checks, each with the text that mends it.

import type { DeviceStatus, Posture } from "$lib/agent/protocol";

export interface PostureCheck {
  id: "disk" | "firewall" | "lock" | "key";
  result: "ok" | "failed" | "unknown";
}

/** What fails comes first, then what is not known: the order in which a person acts. */
export function postureChecks(posture: Posture, device: DeviceStatus | undefined): PostureCheck[] {
  const storage = device?.key_storage ?? posture.key_storage;
  const checks: PostureCheck[] = [
    { id: "disk", result: told(posture.disk_encrypted) },
    { id: "firewall", result: told(posture.firewall) },
    { id: "lock", result: told(posture.screen_lock) },
    { id: "key", result: told(storage === "keyring" || storage === "tpm") },
  ];
  const order = { failed: 0, unknown: 1, ok: 2 };
  return checks.sort((a, b) => order[a.result] - order[b.result]);
}

function told(value: boolean | undefined): PostureCheck["result"] {
  if (value === undefined) return "unknown";
  return value ? "ok" : "failed";
}

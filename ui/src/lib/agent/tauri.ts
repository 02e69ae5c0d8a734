// The desktop as the shell gives it: each method is the Tauri command of the same name in snake_case.

import { Channel, invoke } from "@tauri-apps/api/core";
import type { Desktop, DesktopEvent } from "./desktop";

export function tauriDesktop(): Desktop {
  return {
    async subscribe(listener) {
      const channel = new Channel<DesktopEvent>();
      channel.onmessage = listener;
      await invoke("subscribe", { channel });
      // The shell drops its end with the page; until then nobody listens any more.
      return () => (channel.onmessage = () => undefined);
    },
    startAgent: (organisation) => invoke("start_agent", { organisation }),
    restartAgent: (organisation) => invoke("restart_agent", { organisation }),
    installAgent: (organisation) => invoke("install_agent", { organisation }),
    uninstallAgent: (organisation) => invoke("uninstall_agent", { organisation }),
    addOrganisation: () => invoke("add_organisation"),
    removeOrganisation: (organisation) => invoke("remove_organisation", { organisation }),
    login: (organisation, request) => invoke("login", { organisation, request }),
    reopenSignIn: (organisation) => invoke("reopen_sign_in", { organisation }),
    cancelLogin: (organisation) => invoke("cancel_login", { organisation }),
    logout: (organisation) => invoke("logout", { organisation }),
    openApp: (organisation, app) => invoke("open_app", { organisation, app }),
    activity: (organisation) => invoke("activity", { organisation }),
    doctor: (organisation) => invoke("doctor", { organisation }),
    logs: (organisation) => invoke("logs", { organisation }),
    saveBundle: (organisation) => invoke("save_bundle", { organisation }),
    agentSettings: (organisation) => invoke("agent_settings", { organisation }),
    setAgentSettings: (organisation, settings) => invoke("set_agent_settings", { organisation, settings }),
    setPreferences: (preferences) => invoke("set_preferences", { preferences }),
    copy: (text) => invoke("copy", { text }),
  };
}

// Was die Diagnose findet, auf Deutsch: was gut ist, was übersprungen wurde, und was kein Code allein sagt.

import type { FindingTexts } from "./finding";

export const findingsDe: FindingTexts = {
  ok: {
    agent: "Der Agent läuft.",
    keyring: "Geheimnisse lassen sich verwahren, lesen und entfernen.",
    captive_portal: "Kein Anzeichen dafür, dass dieses Netz eine eigene Anmeldung will.",
    relay_tcp: "Das Relay antwortet mit einem Zertifikat, dem vertraut wird.",
    relay_quic: "Das Relay antwortet.",
    clock: "Sie stimmt mit der des Relays überein.",
    certificate: "Es gilt und wird rechtzeitig erneuert.",
    session: "Angemeldet und verbunden.",
    listeners: "Alle Apps haben ihre lokale Adresse.",
  },
  skipped: {
    agent: "Das lässt sich gerade nicht sagen.",
    keyring: "Die Konfiguration will keinen Schlüsselbund.",
    captive_portal: "Das lässt sich gerade nicht sagen.",
    relay_tcp: "Noch ist kein Relay bekannt.",
    relay_quic: "Noch ist nicht bekannt, wo das Relay zu erreichen ist.",
    clock: "Vom Relay war keine Uhrzeit zu erfahren.",
    certificate: "Es gibt keines: es kommt mit der Anmeldung.",
    session: "Eine Anmeldung ist im Gang, oder es läuft kein Agent.",
    listeners: "Nur ein laufender Agent hat lokale Adressen.",
  },
  special: {
    certificate_late: {
      title: "Das Zertifikat endet bald und wurde nicht rechtzeitig erneuert",
      fix: "Es wird erneuert, sobald das Relay zu erreichen ist; sehen Sie die anderen Ergebnisse an.",
    },
    session_ending: { title: "Die Sitzung endet bald", fix: "Melden Sie sich vorher neu an; dabei geht nichts verloren." },
    portal_perhaps: {
      title: "Vielleicht: an der Adresse des Relays antwortet etwas anderes, wie die Anmeldeseite eines Netzes",
      fix: "Öffnen Sie irgendeine Webseite, melden Sie sich am Netz an, und versuchen Sie es dann noch einmal.",
    },
    quic_silent: {
      title: "Über UDP kam keine Antwort; vielleicht sperrt dieses Netz es",
      fix: "Fragen Sie, wer das Netz betreibt, ob UDP zum Relay erlaubt ist, oder versuchen Sie ein anderes Netz.",
    },
  },
};

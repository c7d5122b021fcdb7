import { link, roundTrip } from "../state/session";

const WORDS = { connecting: "Connecting", live: "Live", waiting: "Reconnecting", unauthorized: "Logged out", stopped: "Stopped" };

/** Whether what is on the screen is current. */
export function LinkState() {
  const tip = () => (link().phase === "live" && roundTrip() !== null ? `round trip ${roundTrip()!.toFixed(1)} ms` : "");
  return (
    <span class={`pill link ${link().phase}`} id="link" data-phase={link().phase} title={tip()} role="status">
      <i class="dot" />
      {WORDS[link().phase]}
    </span>
  );
}

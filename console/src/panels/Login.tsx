import { createSignal, onMount, Show } from "solid-js";
import { expired, signIn } from "../state/session";
import { Logo } from "../ui/Logo";

export function Login() {
  const [problem, setProblem] = createSignal<string | null>(null);
  const [busy, setBusy] = createSignal(false);
  let input!: HTMLInputElement;
  onMount(() => input.focus());

  const submit = async (event: SubmitEvent) => {
    event.preventDefault();
    const token = input.value.trim();
    if (token === "") return;
    setBusy(true);
    setProblem(null);
    try {
      await signIn(token);
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
      input.select();
    } finally {
      setBusy(false);
    }
  };

  return (
    <div class="login">
      <form class="login-card" onSubmit={(event) => void submit(event)}>
        <div class="login-brand"><Logo /><h1>Sluice</h1></div>
        <Show when={expired()}><p class="note" role="status">Your login is no longer valid: the daemon was restarted, or it ran out.</p></Show>
        <label for="token">Token of this daemon</label>
        <input
          ref={input}
          id="token"
          type="password"
          autocomplete="current-password"
          spellcheck={false}
          aria-invalid={problem() !== null}
          aria-describedby="token-help"
        />
        <Show when={problem()}>{(text) => <p class="problem" role="alert">{text()}</p>}</Show>
        <button type="submit" class="primary" disabled={busy()}>{busy() ? "One moment" : "Log in"}</button>
        <p id="token-help" class="note">Root reads it on the machine Sluice runs on:<code>sudo cat /var/lib/sluice/token</code></p>
      </form>
    </div>
  );
}

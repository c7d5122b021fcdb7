import { render } from "solid-js/web";
import { App } from "./App";
import { begin } from "./state/session";

render(() => <App />, document.getElementById("app")!);
void begin();

// Where the pages begin.

import { mount } from "svelte";
import { chooseDesktop } from "$lib/agent/choose";
import { App } from "$lib/state/app.svelte";
import Window from "./Window.svelte";
import "./app.css";

const target = document.getElementById("app");
if (target) {
  const app = new App(await chooseDesktop());
  mount(Window, { target, props: { app } });
  await app.start();
}

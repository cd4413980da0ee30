// Shows the log-in form or the page, whichever fits.
import { currentLogIn, forgetLogIn, type LogIn, logInForm } from "./login.js";
import { Page } from "./page.js";

const app = document.querySelector("#app");
let page: Page | undefined;

function showForm(problem: string): void {
  page?.close();
  page = undefined;
  document.title = "Parlance";
  app?.replaceChildren(logInForm(problem, showPage));
}

function showPage(logIn: LogIn): void {
  page?.close();
  page = new Page(logIn, (problem) => {
    forgetLogIn();
    showForm(problem);
  });
  app?.replaceChildren(page.root);
}

function start(): void {
  const logIn = currentLogIn();
  if (logIn === undefined) showForm("");
  else showPage(logIn);
}

addEventListener("hashchange", start);
start();

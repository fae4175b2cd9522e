// The report page while a run goes: asks every two seconds what has changed, and fetches the page anew when a stage is whole.
"use strict";
(() => {
  const main = document.getElementById("main");
  const place = document.getElementById("live");
  const EVERY = 2000;
  const SLOW = 15000;
  let shown = null;
  let asked = false;

  const fragment = (html) => {
    const holder = document.createElement("template");
    holder.innerHTML = html; // escaped by the server, and no script runs from a template under this page's policy
    return holder.content;
  };

  const keepOpen = (scope) => [...scope.querySelectorAll("details[open] > summary")].map((one) => one.textContent);

  const reopen = (scope, names) => {
    for (const one of scope.querySelectorAll("details > summary")) {
      if (names.includes(one.textContent)) one.parentElement.open = true;
    }
  };

  const refresh = async () => {
    const answer = await fetch(location.pathname);
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById("main");
    const open = keepOpen(main);
    for (const section of fresh.querySelectorAll(":scope > section, :scope > header")) {
      const old = section.id ? main.querySelector(`:scope > #${CSS.escape(section.id)}`) : main.querySelector(":scope > header");
      if (old && old.innerHTML !== section.innerHTML && !old.contains(document.activeElement)) {
        old.replaceWith(document.adoptNode(section));
      }
    }
    main.dataset.version = fresh.dataset.version;
    reopen(main, open);
  };

  const look = async () => {
    let wait = EVERY;
    try {
      const answer = await fetch(main.dataset.live);
      if (answer.ok) {
        const html = await answer.text();
        if (html !== shown && !place.contains(document.activeElement)) {
          const open = keepOpen(place);
          place.replaceChildren(fragment(html));
          reopen(place, open);
          shown = html;
        }
        if (answer.headers.get("x-tapir-version") !== main.dataset.version) await refresh();
        if (answer.headers.get("x-tapir-state") === "finished") wait = SLOW;
      }
    } catch {
      wait = SLOW; // the server is gone, perhaps for a moment only
    }
    setTimeout(look, document.hidden ? SLOW : wait);
  };
  setTimeout(look, EVERY);

  const save = document.querySelector("form.save");
  save.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (asked) return;
    asked = true;
    const said = save.querySelector("[data-said]");
    said.textContent = "Writing…";
    try {
      const token = sessionStorage.getItem("tapir-token") || "";
      const answer = await fetch(save.dataset.address, { method: "POST", headers: { "X-Tapir-Token": token } });
      said.textContent = answer.ok ? `Written: ${(await answer.json()).path}` : await answer.text();
    } catch {
      said.textContent = "The server does not answer.";
    }
    asked = false;
  });
})();

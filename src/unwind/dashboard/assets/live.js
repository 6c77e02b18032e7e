// Keeps an open page true: hears that there is news, loads the page again, and puts the new content in place of the old.
// Without it every page works; it is then loaded again by hand.
"use strict";
(() => {
  const told = document.getElementById("live");
  const main = document.getElementById("main");
  let source = null;
  let loading = false;
  let again = false;

  const typing = () => main.contains(document.activeElement) && document.activeElement.matches("input:not([type=range]), select, textarea");

  function put(fresh) {
    const open = new Set(Array.from(main.querySelectorAll("details[id]")).filter((each) => each.open).map((each) => each.id));
    const focused = main.contains(document.activeElement) ? document.activeElement : null;
    const href = focused && focused.getAttribute("href");
    const of = focused && focused.closest("details[id]");
    main.replaceChildren(...fresh.childNodes);
    for (const id of open) {
      const each = document.getElementById(id);
      if (each) each.open = true;
    }
    if (of && document.getElementById(of.id)) document.getElementById(of.id).firstElementChild.focus({ preventScroll: true });
    else if (href) {
      const same = Array.from(main.querySelectorAll("a")).find((each) => each.getAttribute("href") === href);
      if (same) same.focus({ preventScroll: true });
    }
  }

  // Ages and the line of now move on although nothing happens.
  const AGES = 10000;
  setInterval(() => { if (source && document.visibilityState === "visible" && main.dataset.live && !typing()) load(); }, AGES);

  async function load() {
    if (loading) { again = true; return; }
    if (typing()) { told.textContent = "There is news: load again"; return; }
    loading = true;
    try {
      const answer = await fetch(location.href);
      if (answer.status === 401) { told.textContent = "Not live: your session has ended. Load again to log in"; return; }
      if (!answer.ok) throw new Error(answer.status);
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById("main");
      if (typing()) { told.textContent = "There is news: load again"; return; }
      document.title = page.title;
      put(fresh);
      if (!fresh.dataset.live) { delete main.dataset.live; source.close(); told.textContent = page.getElementById("live").textContent; }
    } catch (error) {
      told.textContent = "Could not load the news: load again";
    } finally {
      loading = false;
      if (again) { again = false; load(); }
    }
  }

  function listen(seen) {
    const address = main.dataset.live;
    source = new EventSource(`${address}${address.includes("?") ? "&" : "?"}since=${encodeURIComponent(seen)}`);
    source.onopen = () => { told.textContent = "Live"; };
    source.addEventListener("news", (event) => { main.dataset.mark = event.lastEventId; load(); });
    source.onerror = () => {
      told.textContent = "Not live: the connection is lost, trying again";
      // Refused, not lost: the page itself may tell why.
      if (source.readyState === EventSource.CLOSED) { load(); setTimeout(() => listen(main.dataset.mark), 5000); }
    };
  }

  if (main.dataset.live && window.EventSource) listen(main.dataset.mark);
})();

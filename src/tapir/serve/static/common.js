// Keeps the token that `tapir serve` printed for this tab, and takes it out of the address.
"use strict";
(() => {
  const found = /^#token=([A-Za-z0-9_-]+)$/.exec(location.hash);
  if (found) {
    sessionStorage.setItem("tapir-token", found[1]);
    history.replaceState(null, "", location.pathname + location.search);
  }
})();

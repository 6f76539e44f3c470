// Finds the number that solves the challenge of this page and sends the form. Without this module, or where a browser cannot run the
// search, the page says to wait.
for (const form of document.querySelectorAll("form[data-challenge]")) {
  const { challenge, bits, worker } = form.dataset;
  const [working, cannot] = ["status", "alert"].map((role) => form.querySelector(`[role=${role}]`));
  working.hidden = false;
  const search = new Worker(worker);
  search.addEventListener("error", () => {
    working.hidden = true;
    cannot.hidden = false;
  });
  search.addEventListener("message", ({ data }) => {
    form.elements.solution.value = data;
    form.submit();
  });
  search.postMessage({ challenge, bits: Number(bits) });
}

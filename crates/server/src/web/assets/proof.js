// Finds the number that solves the challenge of this page and sends the form. Without this module the page says to wait.
for (const form of document.querySelectorAll("form[data-challenge]")) {
  const { challenge, bits, worker } = form.dataset;
  form.querySelector("[role=status]").hidden = false;
  const search = new Worker(worker, { type: "module" });
  search.addEventListener("message", ({ data }) => {
    form.elements.solution.value = data;
    form.submit();
  });
  search.postMessage({ challenge, bits: Number(bits) });
}

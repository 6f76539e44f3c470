// Passkeys. A form with `data-passkey` asks `data-options` for the question; "get" posts the browser's answer as the form's field
// `credential`, "create" sends it and goes on to `data-next`. Without this module and without passkeys neither form is seen.
const RENEW = 240_000; // ms; a question is good for five minutes

const decode = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const encode = (octets) =>
  btoa(Array.from(new Uint8Array(octets), (octet) => String.fromCharCode(octet)).join(""))
    .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

// Written out, because not every browser, and not every password manager that stands in for one, has parse..FromJSON and toJSON.
const read = (options) => {
  const named = (list) => (list ?? []).map((credential) => ({ ...credential, id: decode(credential.id) }));
  const all = { ...options, challenge: decode(options.challenge) };
  if (options.user) all.user = { ...options.user, id: decode(options.user.id) };
  if (options.excludeCredentials) all.excludeCredentials = named(options.excludeCredentials);
  if (options.allowCredentials) all.allowCredentials = named(options.allowCredentials);
  return all;
};

const write = ({ rawId, type, response }) => {
  const id = encode(rawId);
  const said = { clientDataJSON: encode(response.clientDataJSON) };
  if (response.attestationObject) {
    said.attestationObject = encode(response.attestationObject);
    said.transports = response.getTransports?.() ?? [];
  } else {
    said.authenticatorData = encode(response.authenticatorData);
    said.signature = encode(response.signature);
    if (response.userHandle) said.userHandle = encode(response.userHandle);
  }
  return JSON.stringify({ id, rawId: id, type, response: said });
};

const post = (url, form, more = {}) => {
  const body = new URLSearchParams(new FormData(form));
  for (const [name, value] of Object.entries(more)) body.set(name, value);
  return fetch(url, { method: "POST", body, headers: { accept: "application/json" }, redirect: "error" });
};

const question = async (form) => {
  const answer = await post(form.dataset.options, form);
  if (!answer.ok) throw answer;
  return read((await answer.json()).publicKey);
};

const tell = (form, failed) => {
  const text = form.querySelector("[data-failed]");
  if (text) text.hidden = !failed;
};

// Somebody who changes their mind is told nothing.
const changedTheirMind = (error) => error?.name === "NotAllowedError" || error?.name === "AbortError";

const failed = async (form, error) => {
  if (changedTheirMind(error)) return;
  const said = error instanceof Response ? await error.json().catch(() => ({})) : {};
  if (said.code === "recent_sign_in_required" && form.dataset.confirm) location.assign(form.dataset.confirm);
  else tell(form, true);
};

const signIn = (form) => {
  let offered = Promise.resolve(); // what the browser offers at the field of the address
  let stop = new AbortController();

  const send = (credential) => {
    form.elements.credential.value = write(credential);
    form.submit();
  };

  const offer = async () => {
    if (!(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
    stop = new AbortController();
    const { signal } = stop;
    while (!signal.aborted) {
      if (document.hidden) await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
      const turn = new AbortController();
      const end = () => turn.abort();
      signal.addEventListener("abort", end, { once: true });
      const timer = setTimeout(end, RENEW);
      try {
        const publicKey = await question(form);
        turn.signal.throwIfAborted();
        return send(await navigator.credentials.get({ publicKey, mediation: "conditional", signal: turn.signal }));
      } catch (error) {
        if (!turn.signal.aborted) return; // nothing is offered, and the button is there
      } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", end);
      }
    }
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    tell(form, false);
    stop.abort(); // a browser answers one question at a time
    await offered.catch(() => {});
    try {
      send(await navigator.credentials.get({ publicKey: await question(form) }));
    } catch (error) {
      await failed(form, error);
      offered = offer();
    }
  });
  offered = offer();
};

const create = (form) => {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    tell(form, false);
    try {
      const credential = await navigator.credentials.create({ publicKey: await question(form) });
      const answer = await post(form.action, form, { credential: write(credential) });
      if (!answer.ok) throw answer;
      location.assign(form.dataset.next);
    } catch (error) {
      await failed(form, error);
    }
  });
};

if (window.PublicKeyCredential) {
  for (const form of document.querySelectorAll("form[data-passkey]")) (form.dataset.passkey === "get" ? signIn : create)(form);
}

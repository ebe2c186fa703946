/* Passkeys: making one, and logging in with one.

   Buttons with data-passkey="login" or "create" are hidden until it is known that this browser has
   passkeys. What becomes of a press is said in the element that the button's data-says names. */

"use strict";

(() => {
  if (!window.PublicKeyCredential || !navigator.credentials) return;

  // ---- bytes, as base64url without padding

  const bytes = (text) =>
    Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (char) => char.charCodeAt(0));
  const text = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer)))
      .replaceAll("+", "-")
      .replaceAll("/", "_")
      .replaceAll("=", "");
  const described = (one) => ({ ...one, id: bytes(one.id) });

  function answer(credential) {
    const { response } = credential;
    const said = { clientDataJSON: text(response.clientDataJSON) };
    for (const name of ["attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (response[name]) said[name] = text(response[name]);
    }
    if (response.getTransports) said.transports = response.getTransports();
    return {
      id: credential.id,
      rawId: text(credential.rawId),
      type: credential.type,
      clientExtensionResults: {},
      response: said,
    };
  }

  // ---- the portal

  class Refused extends Error {
    constructor(problem) {
      super(problem.detail || "That did not work. Try again.");
      this.code = problem.code;
    }
  }

  async function post(url, body) {
    const reply = await fetch(url, {
      method: "POST",
      headers: { Accept: "application/json", "Content-Type": "application/json" },
      body: JSON.stringify(body),
    });
    const said = await reply.json().catch(() => ({}));
    if (!reply.ok) throw new Refused(said);
    return said;
  }

  const csrf = () => document.querySelector('input[name="csrf"]').value;

  async function create() {
    const { attempt, options } = await post("/account/passkeys/options", { csrf: csrf() });
    const credential = await navigator.credentials.create({
      publicKey: {
        ...options,
        challenge: bytes(options.challenge),
        user: { ...options.user, id: bytes(options.user.id) },
        excludeCredentials: options.excludeCredentials.map(described),
      },
    });
    await post("/account/passkeys", { csrf: csrf(), attempt, credential: answer(credential) });
  }

  async function logIn() {
    const { attempt, options } = await post("/passkeys/login/options", {});
    const credential = await navigator.credentials.get({
      publicKey: { ...options, challenge: bytes(options.challenge), allowCredentials: [] },
    });
    try {
      return await post("/passkeys/login", { attempt, credential: answer(credential) });
    } catch (error) {
      // The device need not offer again what the portal does not know.
      if (error.code === "unknown_passkey" && PublicKeyCredential.signalUnknownCredential) {
        PublicKeyCredential.signalUnknownCredential({ rpId: options.rpId, credentialId: credential.id }).catch(() => {});
      }
      throw error;
    }
  }

  // ---- buttons

  function words(error) {
    if (error instanceof Refused) {
      const said = error.message.charAt(0).toUpperCase() + error.message.slice(1);
      return /[.!/]$/.test(said) ? said : `${said}.`;
    }
    if (error.name === "InvalidStateError") return "This device has a passkey of yours for this portal already.";
    if (error.name === "NotAllowedError") return "Nothing was chosen, or it took too long. Try again.";
    if (error instanceof TypeError) return "The portal does not answer. Try again in a moment.";
    return `This browser can’t use a passkey here: ${error.message}`;
  }

  const done = {
    create() {
      location.assign("/account?done=passkey#passkeys");
    },
    login({ after }) {
      if (after) location.assign(after);
      else if (location.pathname.startsWith("/login")) location.assign("/");
      else location.reload();
    },
  };
  const work = { create, login: logIn };

  for (const button of document.querySelectorAll("[data-passkey]")) {
    const said = document.getElementById(button.dataset.says);
    button.hidden = false;
    button.addEventListener("click", async () => {
      if (button.disabled) return;
      button.disabled = true;
      said.hidden = true;
      try {
        done[button.dataset.passkey](await work[button.dataset.passkey]());
      } catch (error) {
        said.textContent = words(error);
        said.hidden = false;
      } finally {
        button.disabled = false;
      }
    });
  }
  for (const element of document.querySelectorAll("[data-with-passkeys]")) element.hidden = false;
})();

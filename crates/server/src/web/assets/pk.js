// Runs before the first paint, so that what needs passkeys is there or not there from the start.
if (window.PublicKeyCredential) document.documentElement.classList.add("pk");

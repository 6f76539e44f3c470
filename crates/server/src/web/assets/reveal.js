// Show and hide a password. Without this module the button never appears.
for (const button of document.querySelectorAll("[aria-controls=password]")) {
  const input = document.getElementById("password");
  const words = button.querySelectorAll("span:not(.vh)");
  const show = (shown) => {
    input.type = shown ? "text" : "password";
    words[0].hidden = shown;
    words[1].hidden = !shown;
  };
  button.hidden = false;
  button.addEventListener("click", () => show(input.type === "password"));
  // A password left readable would be offered as ordinary text by form history.
  input.form.addEventListener("submit", () => show(false));
}

// Shows openapi.json in Swagger UI. Where reading needs a token, asks for one, keeps it
// for this tab, and fills it in for requests that are tried out.
"use strict";

const STORED = "token"; // the same as the page at / has
const form = document.getElementById("ask");
const field = document.getElementById("token");
const message = document.getElementById("message");

async function show() {
  const token = sessionStorage.getItem(STORED);
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch("openapi.json", { headers });
  form.hidden = answer.status !== 401;
  if (answer.status === 401) {
    message.textContent = token ? "That token is not valid." : "";
    field.focus();
    return;
  }
  const spec = await answer.json();
  message.textContent = answer.ok ? "" : spec.detail;
  if (answer.ok) {
    start(spec, token);
  }
}

function start(spec, token) {
  const ui = SwaggerUIBundle({
    spec,
    dom_id: "#api",
    deepLinking: true,
    validatorUrl: null, // it would be asked for a badge
    onComplete() {
      for (const name of token ? Object.keys(spec.components.securitySchemes) : []) {
        ui.preauthorizeApiKey(name, token);
      }
    },
  });
}

function report(error) {
  message.textContent = `There is no answer: ${error.message}`;
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(STORED, field.value.trim());
  field.value = "";
  show().catch(report);
});

show().catch(report);

// Answers one JSON line for each JSON line of input: [name, ...arguments], where name is one of `calls` below or a method of the official
// Node SDK such as `organizations.getOrganization`. Of a list that has pages, all rows are the answer.
// The test drives it, so that assertions stay in one language.
import { appendFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { WorkOS } from '@workos-inc/node';

const { WORKOS_BASE_URL, WORKOS_API_KEY, WORKOS_CLIENT_ID, GATEWRIGHT_RECORD, NODE_COOKIE_PASSWORD: cookiePassword } = process.env;
const base = new URL(WORKOS_BASE_URL);
const place = { apiHostname: base.hostname, port: Number(base.port), https: false };

let asked = null; // notes requests instead of sending them
const send = globalThis.fetch;
globalThis.fetch = async (url, options = {}) => {
  if (asked) {
    asked.push([options.method ?? 'GET', new URL(url).pathname]);
    return new Response('{}', { headers: { 'content-type': 'application/json' } });
  }
  const response = await send(url, options);
  if (GATEWRIGHT_RECORD) {
    const exchange = {
      method: options.method ?? 'GET', path: String(url), status: response.status, request_body: options.body ? String(options.body) : null,
      response_body: (await response.clone().text()) || null, response_headers: Object.fromEntries(response.headers),
    };
    appendFileSync(GATEWRIGHT_RECORD, JSON.stringify(exchange) + '\n');
  }
  return response;
};

const workos = new WorkOS(WORKOS_API_KEY, { clientId: WORKOS_CLIENT_ID, ...place });
const publicClient = new WorkOS({ clientId: WORKOS_CLIENT_ID, ...place });
const users = workos.userManagement;
const callSdk = async (name, given) => {
  const [resource, method] = name.split('.');
  const answer = await workos[resource][method](...given);
  return answer?.autoPagination ? answer.autoPagination() : answer;
};
const sealed = (sessionData) => users.loadSealedSession({ sessionData, cookiePassword });

let runtime; // of feature flags: it asks by itself
const startRuntimeClient = async () => {
  runtime = workos.featureFlags.createRuntimeClient({ pollingIntervalMs: 5000 });
  await runtime.waitUntilReady({ timeoutMs: 10_000 });
};

// Fits every parameter: a text, a list of one, an object with every field and method.
const anything = new Proxy(() => {}, {
  get: (_, key) => {
    if (key === Symbol.toPrimitive || key === 'toJSON') return () => 'x';
    if (key === Symbol.iterator) return function* () { yield anything; };
    return key === 'then' ? undefined : anything;
  },
  has: () => true,
  apply: () => anything,
});

// What every method of every resource would ask for: [resource.method, verb, path]. Nothing is sent.
async function listRequests() {
  const found = [];
  for (const [name, resource] of Object.entries(workos)) {
    const kind = resource && Object.getPrototypeOf(resource);
    if (!kind || kind === Object.prototype || name === 'client' || typeof resource !== 'object') continue;
    for (const method of Object.getOwnPropertyNames(kind).filter((key) => key !== 'constructor')) {
      asked = [];
      try {
        const made = await resource[method](anything, anything, anything, anything);
        made?.close?.();
      } catch {} // an empty object is no answer to most calls
      found.push(...asked.map(([verb, path]) => [`${name}.${method}`, verb, path]));
    }
  }
  asked = null;
  return found;
}

const calls = {
  authorizationUrl: (options) => users.getAuthorizationUrl({ provider: 'authkit', clientId: WORKOS_CLIENT_ID, ...options }),
  authorizationUrlWithPKCE: (options) => publicClient.userManagement.getAuthorizationUrlWithPKCE({ provider: 'authkit', clientId: WORKOS_CLIENT_ID, ...options }),
  authenticateWithCode: (code) => users.authenticateWithCode({ clientId: WORKOS_CLIENT_ID, code, session: { sealSession: true, cookiePassword } }),
  authenticatePublic: (code, codeVerifier) => publicClient.userManagement.authenticateWithCode({ clientId: WORKOS_CLIENT_ID, code, codeVerifier }),
  authenticateSession: (data) => sealed(data).authenticate(),
  refreshSession: (data, options) => sealed(data).refresh(options),
  logoutUrl: (data) => sealed(data).getLogoutUrl({ returnTo: 'http://localhost:9/' }),
  createUser: (options) => users.createUser(options),
  getUser: (id) => users.getUser(id),
  listAllUsers: async (options) => (await (await users.listUsers(options)).autoPagination()).map((user) => user.id),
  deleteUser: (id) => users.deleteUser(id),
  authenticateWithPassword: (options) => users.authenticateWithPassword({ clientId: WORKOS_CLIENT_ID, ...options }),
  sendVerificationEmail: (userId) => users.sendVerificationEmail({ userId }),
  revokeSession: (sessionId) => users.revokeSession({ sessionId }),
  getOrganizationWithWrongKey: (id) => new WorkOS('sk_wrong', { clientId: WORKOS_CLIENT_ID, ...place }).organizations.getOrganization(id),
  listRequests,
  startRuntimeClient,
  isEnabled: (slug, context) => runtime.isEnabled(slug, context, false),
  listEnabled: (context) => runtime.getAllFlags(context),
  stopRuntimeClient: () => runtime.close(),
  wrongKey: () => new WorkOS('sk_wrong', { clientId: WORKOS_CLIENT_ID, ...place }).userManagement.listUsers(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...given] = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await (name in calls ? calls[name](...given) : callSdk(name, given))) ?? null };
  } catch (error) {
    answer = { error: error.constructor.name, status: error.status ?? null, code: error.code ?? error.rawData?.code ?? null, message: String(error.message), rawData: error.rawData ?? null };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}

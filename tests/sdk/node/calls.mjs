// Answers one JSON line for each JSON line of input: [method, ...arguments] called on the official Node SDK.
// The test drives it, so that assertions stay in one language.
import { appendFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { WorkOS } from '@workos-inc/node';

const { WORKOS_BASE_URL, WORKOS_API_KEY, WORKOS_CLIENT_ID, GATEWRIGHT_RECORD, NODE_COOKIE_PASSWORD: cookiePassword } = process.env;
const base = new URL(WORKOS_BASE_URL);
const place = { apiHostname: base.hostname, port: Number(base.port), https: false };

const send = globalThis.fetch;
globalThis.fetch = async (url, options = {}) => {
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
const sealed = (sessionData) => users.loadSealedSession({ sessionData, cookiePassword });

const calls = {
  authorizationUrl: (options) => users.getAuthorizationUrl({ provider: 'authkit', clientId: WORKOS_CLIENT_ID, ...options }),
  authorizationUrlWithPKCE: (options) => publicClient.userManagement.getAuthorizationUrlWithPKCE({ provider: 'authkit', clientId: WORKOS_CLIENT_ID, ...options }),
  authenticateWithCode: (code) => users.authenticateWithCode({ clientId: WORKOS_CLIENT_ID, code, session: { sealSession: true, cookiePassword } }),
  authenticatePublic: (code, codeVerifier) => publicClient.userManagement.authenticateWithCode({ clientId: WORKOS_CLIENT_ID, code, codeVerifier }),
  authenticateSession: (data) => sealed(data).authenticate(),
  refreshSession: (data) => sealed(data).refresh(),
  logoutUrl: (data) => sealed(data).getLogoutUrl({ returnTo: 'http://localhost:9/' }),
  createUser: (options) => users.createUser(options),
  getUser: (id) => users.getUser(id),
  listAllUsers: async (options) => (await (await users.listUsers(options)).autoPagination()).map((user) => user.id),
  deleteUser: (id) => users.deleteUser(id),
  authenticateWithPassword: (options) => users.authenticateWithPassword({ clientId: WORKOS_CLIENT_ID, ...options }),
  sendVerificationEmail: (userId) => users.sendVerificationEmail({ userId }),
  revokeSession: (sessionId) => users.revokeSession({ sessionId }),
  wrongKey: () => new WorkOS('sk_wrong', { clientId: WORKOS_CLIENT_ID, ...place }).userManagement.listUsers(),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...given] = JSON.parse(line);
  let answer;
  try {
    answer = { ok: (await calls[name](...given)) ?? null };
  } catch (error) {
    answer = { error: error.constructor.name, status: error.status ?? null, code: error.code ?? error.rawData?.code ?? null, message: String(error.message) };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}

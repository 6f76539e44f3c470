// Seals and reads session cookies as Node apps do: `@workos-inc/node`, and `iron-session`, which authkit-nextjs uses.
// Answers one JSON line for each JSON line of input: [method, ...arguments].
import { createInterface } from 'node:readline';
import { WorkOS } from '@workos-inc/node';
import { sealData, unsealData } from 'iron-session';

const { WORKOS_BASE_URL, WORKOS_API_KEY, WORKOS_CLIENT_ID: clientId } = process.env;
const base = new URL(WORKOS_BASE_URL);
const workos = new WorkOS(WORKOS_API_KEY, { clientId, apiHostname: base.hostname, port: Number(base.port), https: false });
const users = workos.userManagement;
const load = (sessionData, cookiePassword) => users.loadSealedSession({ sessionData, cookiePassword });

const calls = {
  signIn: (email, password, cookiePassword) =>
    users.authenticateWithPassword({ clientId, email, password, session: { sealSession: true, cookiePassword } }).then((answer) => answer.sealedSession),
  authenticate: (sealed, password) => load(sealed, password).authenticate(),
  refresh: (sealed, password) => load(sealed, password).refresh(),
  logoutUrl: (sealed, password) => load(sealed, password).getLogoutUrl(),
  seal: (session, password) => sealData(session, { password, ttl: 0 }),
  unseal: (sealed, password) => unsealData(sealed, { password, ttl: 0 }),
};

for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...given] = JSON.parse(line);
  try {
    process.stdout.write(JSON.stringify({ ok: (await calls[name](...given)) ?? null }) + '\n');
  } catch (error) {
    process.stdout.write(JSON.stringify({ error: error.constructor.name, message: String(error.message) }) + '\n');
  }
}

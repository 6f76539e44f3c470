// A second OpenID provider: `oidc-provider` on loopback, with its development pages for sign-in and consent.
// Answers one JSON line for each JSON line of input, so that assertions stay in Python.
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { importJWK, SignJWT } from 'jose';
import Provider from 'oidc-provider';

// Standard output is for answers.
console.info = console.log = console.error;
const { kid, callback } = JSON.parse(process.env.PROVIDER);
const key = { ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), kid, alg: 'RS256', use: 'sig' };

const seen = [];
const claims = {};
const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const resources = {
  'https://api.example.test/': { audience: 'https://api.example.test/', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } },
  'https://other.example.test/': { audience: 'https://other.example.test/', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } },
  'https://opaque.example.test/': { audience: 'https://api.example.test/', accessTokenFormat: 'opaque' },
  'https://opaque-other.example.test/': { audience: 'https://other.example.test/', accessTokenFormat: 'opaque' },
};
const scope = 'expenses:read expenses:write';

const provider = new Provider(issuer, {
  clients: [
    { client_id: 'app', client_secret: 'app-secret', redirect_uris: [callback], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'] },
    { client_id: 'machine', client_secret: 'machine-secret', redirect_uris: [], response_types: [], grant_types: ['client_credentials'], scope },
    { client_id: 'api', client_secret: 'api-secret', redirect_uris: [], response_types: [], grant_types: [] },
  ],
  jwks: { keys: [key] },
  cookies: { keys: ['only for tests'] },
  scopes: ['openid', 'offline_access', ...scope.split(' ')],
  pkce: { required: () => false },
  issueRefreshToken: () => true,
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, email: `${id}@example.test` }) }),
  extraTokenClaims: (_, token) => claims[token.accountId ?? token.clientId],
  features: {
    devInteractions: { enabled: true },
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (_, resource) => ({ scope, accessTokenTTL: 300, ...resources[resource] }),
    },
  },
});

const answer = provider.callback();
server.on('request', (request, response) => {
  const exchange = { method: request.method, path: request.url, authorization: request.headers.authorization ?? null, body: '' };
  // Listening for `data` would start the flow before the provider reads its body.
  const push = request.push.bind(request);
  request.push = (chunk, encoding) => { exchange.body += chunk ?? ''; return push(chunk, encoding); };
  seen.push(exchange);
  answer(request, response);
});

const calls = {
  requests: () => seen,
  forget: () => { seen.length = 0; },
  setClaims: (subject, given) => { claims[subject] = given; },
  // What a dishonest or compromised provider could sign with its own, published key.
  sign: async (payload, header) => new SignJWT(payload).setProtectedHeader({ alg: 'RS256', kid, typ: 'at+jwt', ...header }).sign(await importJWK(key, 'RS256')),
};

process.stdout.write(JSON.stringify({ ok: { issuer, kid } }) + '\n');
for await (const line of createInterface({ input: process.stdin })) {
  const [name, ...given] = JSON.parse(line);
  try {
    process.stdout.write(JSON.stringify({ ok: (await calls[name](...given)) ?? null }) + '\n');
  } catch (error) {
    process.stdout.write(JSON.stringify({ error: String(error) }) + '\n');
  }
}
process.exit(0);

// The real OpenID provider of the end-to-end tests: npm's certified `oidc-provider`, on loopback, with its own
// development login and consent pages (any login name is an account). One JSON line on stdout tells that it is ready.
// Settings come as one JSON argument; `/harness/*` lets a test change accounts and look at counts.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { Provider, interactionPolicy } from 'oidc-provider';

const settings = {
  idTokenSeconds: 300, accessTokenSeconds: 300, resource: 'urn:postern:corp.example',
  accounts: {}, // login -> further claims: { email, name, groups }
  classes: {}, // login -> the acr values that this account can be signed in with, besides `pwd`
  authTime: false, // does every ID token say when the person signed in?
  ...JSON.parse(process.argv[2] ?? '{}'),
};
const accounts = new Map(Object.entries(settings.accounts));
const disabled = new Set();
const counts = { authorization: 0, token: 0, refresh: 0, jwks: 0 };

const claimsOf = (id) => ({ sub: id, email: `${id}@corp.example`, email_verified: true, name: id, ...accounts.get(id) });

// Where the relay is, which starts after its provider: { uri, ca }. Its back-channel logout is registered under a name
// that leads nowhere, and only the way there is put right.
let relay;
const RELAY = 'https://relay.invalid/backchannel-logout';
const logouts = []; // every logout token sent, for tests that send it again

function toRelay(uri, { method, headers, body }) {
  if (uri !== RELAY || !relay) throw new Error(`no way to ${uri}`);
  logouts.push(new URLSearchParams(body).get('logout_token'));
  return new Promise((resolve, reject) => {
    const asking = httpsRequest(relay.uri, { method, headers: Object.fromEntries(new Headers(headers)), ca: readFileSync(relay.ca) }, (answer) => {
      answer.resume().on('end', () => resolve(new Response(null, { status: answer.statusCode })));
    });
    asking.on('error', reject).end(String(body));
  });
}

// Who is signed in, but not in a class that was asked for, signs in once more; once, for they may not be able to.
const policy = interactionPolicy.base();
policy.get('login').checks.add(new interactionPolicy.Check('acr_values', 'a stronger sign-in is asked for', ({ oidc }) => {
  const wanted = oidc.params.acr_values?.split(' ') ?? [];
  return wanted.length > 0 && !wanted.includes(oidc.acr) && !oidc.result?.login;
}));

const server = createServer();
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [
    { client_id: 'postern', application_type: 'native', token_endpoint_auth_method: 'none',
      redirect_uris: ['http://127.0.0.1/callback'], response_types: ['code'],
      grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
      backchannel_logout_uri: RELAY, backchannel_logout_session_required: true, require_auth_time: settings.authTime },
    { client_id: 'other', application_type: 'native', token_endpoint_auth_method: 'none',
      redirect_uris: ['http://127.0.0.1/callback'], response_types: ['code'], grant_types: ['authorization_code'] },
    { client_id: 'ci-runner', client_secret: 'ci-runner-secret-canary', redirect_uris: [], response_types: [],
      grant_types: ['client_credentials'] },
  ],
  scopes: ['openid', 'offline_access', 'profile', 'email'],
  claims: { openid: ['sub', 'groups'], profile: ['name'], email: ['email', 'email_verified'] },
  conformIdTokenClaims: false, // claims belong in the ID token: the relay reads nothing else
  findAccount: async (_ctx, id) => disabled.has(id) ? undefined : { accountId: id, claims: async () => claimsOf(id) },
  extraTokenClaims: async (_ctx, token) => ({ groups: accounts.get(token.accountId ?? token.clientId)?.groups }),
  pkce: { required: () => false }, // lenient on purpose: the agent must ask for PKCE by itself (A01)
  rotateRefreshToken: true,
  issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  ttl: { IdToken: settings.idTokenSeconds, AccessToken: settings.accessTokenSeconds, ClientCredentials: settings.accessTokenSeconds,
    AuthorizationCode: 60, RefreshToken: 3600, DeviceCode: 120, Interaction: 300, Session: 3600, Grant: 3600 },
  features: {
    devInteractions: { enabled: true },
    backchannelLogout: { enabled: true },
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: async (_ctx, client) => client.clientId === 'ci-runner' ? settings.resource : undefined,
      useGrantedResource: async () => true,
      getResourceServerInfo: async (_ctx, resource) => ({ scope: '', audience: resource, accessTokenFormat: 'jwt' }),
    },
  },
  acrValues: ['pwd', 'phr', 'phrh'],
  interactions: { policy },
  cookies: { keys: ['harness'] },
  fetch: async (uri, options) => toRelay(String(uri), options), // its own would not go to loopback
});
provider.on('backchannel.error', (_ctx, error) => console.error(error));
provider.on('server_error', (_ctx, error) => console.error(error));

// The development pages know no classes: a sign-in is of the first one asked for that the account can do.
const finish = provider.interactionFinished.bind(provider);
provider.interactionFinished = async (request, response, result, options) => {
  if (result.login) {
    const { params } = await provider.interactionDetails(request, response);
    const can = settings.classes[result.login.accountId] ?? [];
    result.login.acr = params.acr_values?.split(' ').find((acr) => can.includes(acr)) ?? 'pwd';
  }
  return finish(request, response, result, options);
};

const handle = provider.callback();
server.on('request', async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, issuer);
  if (pathname.startsWith('/harness/')) return harness(pathname.slice(9), searchParams, response);
  if (pathname === '/auth') counts.authorization += 1;
  if (pathname === '/token') counts.token += 1;
  if (pathname === '/jwks') counts.jwks += 1;
  handle(request, response);
});
provider.on('grant.success', (ctx) => { if (ctx.oidc.params?.grant_type === 'refresh_token') counts.refresh += 1; });

// An opaque token's value is its id here.
const refreshTokens = new Map();
provider.on('refresh_token.saved', (token) => { if (!token.consumed) refreshTokens.set(token.accountId, token.jti); });

function harness(verb, query, response) {
  const user = query.get('user');
  const stolen = verb === 'stolen' ? { refresh_token: refreshTokens.get(user) } : {};
  if (verb === 'disable') disabled.add(user);
  if (verb === 'enable') disabled.delete(user);
  if (verb === 'account') accounts.set(user, JSON.parse(query.get('claims')));
  if (verb === 'relay') relay = { uri: query.get('uri'), ca: query.get('ca') };
  response.setHeader('content-type', 'application/json');
  response.end(JSON.stringify(verb === 'logouts' ? logouts : { ...counts, ...stolen }));
}

process.stdin.resume().on('end', () => process.exit(0)); // whoever started this is gone
console.log(JSON.stringify({ event: 'ready', issuer }));

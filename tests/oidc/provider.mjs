// A certified OpenID provider on loopback: everybody who types a name is that person.
import { generateKeyPairSync } from "node:crypto";
import http from "node:http";
import Provider from "oidc-provider";

export const CLIENT = { id: "studio", secret: "a secret between the provider and the studio" };

/** A signing key that the provider publishes. */
function key(kid) {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  return { ...privateKey.export({ format: "jwk" }), kid, use: "sig", alg: "RS256" };
}

/** Starts it; `redirect()` is asked late, since each side wants the other's address first. */
export async function startProvider() {
  const server = http.createServer((request, answer) => handler(request, answer));
  await new Promise((done) => server.listen(0, "127.0.0.1", done));
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const redirects = [];
  let handler, keys = [key("first")];
  const build = () => {
    const provider = new Provider(issuer, {
      clients: [{
        client_id: CLIENT.id,
        client_secret: CLIENT.secret,
        redirect_uris: redirects.length ? redirects : ["http://127.0.0.1:1/auth/callback"],
        grant_types: ["authorization_code"],
        response_types: ["code"],
      }],
      jwks: { keys },
      cookies: { keys: ["only for this test"] },
      pkce: { required: () => true },
      findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
      features: { devInteractions: { enabled: true } },
    });
    provider.on("server_error", (_, error) => console.error("provider:", error));
    handler = provider.callback();
    return provider;
  };
  build();
  return {
    issuer,
    /** The studio's callback. Forgets who is signed in. */
    register(uri) {
      redirects.push(uri);
      build();
    },
    /** Signs with a key that nobody has seen. */
    rotate() {
      keys = [key(`key-${keys.length + Math.random()}`)];
      build();
    },
    stop: () => new Promise((done) => (server.closeAllConnections(), server.close(done))),
  };
}

/** Through the provider's pages, from wherever the sign-in began. */
export async function asPerson(page, name) {
  await page.locator('input[name="login"]').fill(name);
  await page.locator('input[name="password"]').fill("any");
  await page.locator('button[type="submit"]').click();
  // Consent.
  await page.locator('button[type="submit"]').click();
}

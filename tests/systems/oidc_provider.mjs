// An OpenID provider that others wrote (npm oidc-provider), with the people it is told.
// usage: node oidc_provider.mjs '{"port": …, "clients": […], "people": {login: {claims}}}'
// It prints a line when it listens. Its login form takes any password.

import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(path.join(process.env.NODE_FOLDER, "package.json"));
const { Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));
const { port, clients, people } = JSON.parse(process.argv[2]);

const provider = new Provider(`http://localhost:${port}`, {
  clients,
  claims: {
    openid: ["sub"],
    profile: ["name", "preferred_username"],
    email: ["email", "email_verified"],
    groups: ["groups"],
  },
  pkce: { required: () => true },
  findAccount: (ctx, id) =>
    people[id] && { accountId: id, claims: async () => ({ sub: id, ...people[id] }) },
});
provider.listen(port, "localhost", () => console.log("listening"));

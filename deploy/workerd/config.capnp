# The edge without Cloudflare: the same Worker on plain workerd, the origin's folder of objects as its bucket.
# docs/edge.md says how to run it ("On a machine of your own").
using Workerd = import "/workerd/workerd.capnp";
using Edge = import "../../edge/build/worker/modules.capnp"; # made by scripts/build-edge

const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),
    (name = "bucket", worker = .bucket),
    # The folder of objects (storage.folder of signet.toml), read only: --directory-path objects=/var/lib/signet/objects
    (name = "objects", disk = (writable = false)),
    # A folder of the edge's own, for what its Durable Objects count: --directory-path state=/var/lib/signet-edge
    (name = "state", disk = (writable = true)),
    # The way to the origin, which usually has a private address.
    (name = "internet", network = (allow = ["public", "private"])),
  ],
  # Behind a front that speaks TLS and sets CLIENT_IP_HEADER; another one: --socket-addr http=…
  sockets = [(name = "http", address = "127.0.0.1:8787", http = (), service = "edge")],
  extensions = [(modules = [(name = "signet:rate-limit", internal = true, esModule = embed "rate-limit.js")])],
);

const edge :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  modules = Edge.modules,
  bindings = [
    (name = "IMAGES_HOST", fromEnvironment = "IMAGES_HOST"),
    (name = "API_HOST", fromEnvironment = "API_HOST"),
    (name = "ORIGIN_URL", fromEnvironment = "ORIGIN_URL"),
    (name = "CLIENT_IP_HEADER", fromEnvironment = "CLIENT_IP_HEADER"),
    (name = "REFERER_HOSTS", fromEnvironment = "REFERER_HOSTS"),
    (name = "PENALTY_RULE", fromEnvironment = "PENALTY_RULE"),
    (name = "TOKEN_RATE", fromEnvironment = "TOKEN_RATE"),
    (name = "LINK_KEYS", fromEnvironment = "LINK_KEYS"),
    (name = "EDGE_KEYS", fromEnvironment = "EDGE_KEYS"),
    (name = "IMAGES", r2Bucket = "bucket"),
    (name = "REVOCATIONS", durableObjectNamespace = "Revocations"),
    (name = "PENALTY_BOX", durableObjectNamespace = "PenaltyBox"),
    (name = "TOKEN_LIMIT", durableObjectNamespace = "TokenLimit"),
    # Quotas as in wrangler.toml; here they are exact, for there is one isolate.
    (name = "LINKS", wrapped = (moduleName = "signet:rate-limit", innerBindings = [(name = "limit", json = "600")])),
    (name = "LINKS_WIDE", wrapped = (moduleName = "signet:rate-limit", innerBindings = [(name = "limit", json = "6000")])),
    (name = "FLOOD", wrapped = (moduleName = "signet:rate-limit", innerBindings = [(name = "limit", json = "1200")])),
    (name = "FLOOD_WIDE", wrapped = (moduleName = "signet:rate-limit", innerBindings = [(name = "limit", json = "12000")])),
    (name = "FLOOD_TOKEN", wrapped = (moduleName = "signet:rate-limit", innerBindings = [(name = "limit", json = "1200")])),
  ],
  durableObjectNamespaces = [
    (className = "Revocations", uniqueKey = "signet-revocations", enableSql = true),
    (className = "PenaltyBox", uniqueKey = "signet-penalty-box", enableSql = true),
    (className = "TokenLimit", uniqueKey = "signet-token-limit", enableSql = true),
  ],
  durableObjectStorage = (localDisk = "state"),
);

const bucket :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  modules = [(name = "bucket.js", esModule = embed "bucket.js")],
  bindings = [(name = "OBJECTS", service = "objects")],
);

// Places in this page: `#/view/name?filter=value`, so that each can be linked to. Pure functions.

/** The place that a hash stands for: {view, name, query}. */
export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [view, ...rest] = path.split("/");
  return { view: view || "overview", name: decode(rest.join("/")), query: Object.fromEntries(new URLSearchParams(query)) };
}

/** The hash of a place. Empty query values are left out. */
export function link(view, name = "", query = {}) {
  const wanted = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const search = wanted.length ? `?${new URLSearchParams(wanted)}` : "";
  return `#/${view}${name ? `/${encode(name)}` : ""}${search}`;
}

/** Change the query of the place that is shown, without a new entry in the history. */
export function replaceQuery(query) {
  const { view, name } = parse(location.hash);
  history.replaceState(null, "", link(view, name, query));
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

// A slash stays, for 10.0.0.0/24 to be read. encodeURIComponent refuses half a surrogate pair.
function encode(text) {
  return encodeURIComponent(String(text).replace(/[\ud800-\udfff]/gu, "\ufffd")).replaceAll("%2F", "/");
}

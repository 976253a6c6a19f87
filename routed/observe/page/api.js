// The status API, read.

const BASE = "/api/v1/";
const TIMEOUT = 20_000;

/** An answer that is not what was asked for. `status`: of HTTP; 0 where there was no answer. */
export class ApiError extends Error {
  constructor(message, hint, status) {
    super(message);
    this.hint = hint;
    this.status = status;
  }
}

/** A document. `path` has its parts encoded (see `part`); `query` leaves out what is empty. Raises ApiError, or
 *  an AbortError where `signal` ended it. */
export async function get(path, query = {}, signal = undefined) {
  const search = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  const signals = [AbortSignal.timeout(TIMEOUT), ...(signal ? [signal] : [])];
  let response;
  try {
    response = await fetch(`${BASE}${path}${search.size ? `?${search}` : ""}`, {
      signal: AbortSignal.any(signals),
      headers: { accept: "application/json" },
    });
    if (response.ok) return await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    const slow = error.name === "TimeoutError";
    throw new ApiError(
      slow ? `No answer within ${TIMEOUT / 1000} seconds` : "routed does not answer",
      slow ? "The process may be busy; its log says with what." : "It may have stopped, or the tunnel to the node is gone.",
      0,
    );
  }
  const said = await response.json().catch(() => ({}));
  throw new ApiError(said.error ?? `${response.status} ${response.statusText}`, said.hint ?? "", response.status);
}

/** A name as a part of a path. */
export function part(name) {
  return encodeURIComponent(name);
}

export const STREAM = `${BASE}events/stream`;

// Calls to the scorer. The key stays in this tab: sessionStorage is neither shared with others nor kept after it.

const STORE = "driftline-key";
const WAIT_MS = 10000;

export function key() {
  return sessionStorage.getItem(STORE) ?? "";
}

export function setKey(value) {
  if (value) sessionStorage.setItem(STORE, value);
  else sessionStorage.removeItem(STORE);
}

// The scorer's refusal; `status` 0 is no answer at all.
export class Refused extends Error {
  constructor(status, error, detail, wait = 0) {
    super(detail);
    this.status = status;
    this.error = error;
    this.wait = wait;
  }

  get wantsKey() {
    return this.status === 401 || this.status === 403;
  }
}

export async function call(path, body) {
  const headers = {};
  if (key()) headers.Authorization = `Bearer ${key()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  let content;
  try {
    answer = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      signal: AbortSignal.timeout(WAIT_MS),
    });
    content = await answer.json();
  } catch {
    throw new Refused(answer?.status ?? 0, "away", "the scorer does not answer");
  }
  if (!answer.ok) {
    const wait = Number(answer.headers.get("Retry-After")) || 0;
    throw new Refused(answer.status, content.error ?? "failed", content.detail ?? `it answered ${answer.status}`, wait);
  }
  return content;
}

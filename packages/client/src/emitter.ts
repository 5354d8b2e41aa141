import type { Undo } from "@sojourn/protocol"

/** Listeners by name. One that throws is reported and disturbs nobody. */
export class Emitter {
  readonly #listeners = new Map<string, Set<(payload: never) => void>>()
  readonly #failed: (cause: unknown) => void

  constructor(failed: (cause: unknown) => void) {
    this.#failed = failed
  }

  on(name: string, listener: (payload: never) => void): Undo {
    let set = this.#listeners.get(name)
    if (!set) this.#listeners.set(name, (set = new Set()))
    // A wrapper of its own, so that the same function listening twice has two undos.
    const own = (payload: never): void => listener(payload)
    set.add(own)
    return () => {
      set.delete(own)
      if (set.size === 0 && this.#listeners.get(name) === set) this.#listeners.delete(name)
    }
  }

  has(name: string): boolean {
    return this.#listeners.has(name)
  }

  emit(name: string, payload: unknown): void {
    const set = this.#listeners.get(name)
    if (set) for (const listener of [...set]) if (set.has(listener)) this.tell(listener, payload)
  }

  tell(listener: (payload: never) => void, payload: unknown): void {
    try {
      listener(payload as never)
    } catch (cause) {
      this.#failed(cause)
    }
  }

  clear(): void {
    this.#listeners.clear()
  }
}

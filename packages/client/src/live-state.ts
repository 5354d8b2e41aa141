import { applyPatches, type Patch, type Undo } from "@sojourn/protocol"
import { Emitter } from "./emitter.ts"

/**
 * An actor's state as the client knows it: a snapshot, then patches. States are never changed in place; what a patch does not touch
 * is the same object as before, so a subscriber may compare by identity.
 */
export class LiveState {
  value: unknown
  /** Whether `value` is a state at all. */
  has = false
  /** Revision of the snapshot: patches up to it are in it already. */
  #from = 0
  readonly #changes: Emitter

  constructor(failed: (cause: unknown) => void) {
    this.#changes = new Emitter(failed)
  }

  /** Somebody subscribed: the attach asks for live state. */
  get wanted(): boolean {
    return this.#changes.has("")
  }

  set(value: unknown, revision: number): void {
    this.value = value
    this.has = true
    this.#from = revision
  }

  /** Throws where the patches do not fit, which is a gap; the state is as it was. */
  apply(patches: readonly Patch[], revision: number): void {
    if (this.has && revision > this.#from) this.value = applyPatches(this.value, patches)
  }

  /** Tells subscribers: after `set` or `apply`, and after the events of the same turn. */
  changed(): void {
    if (this.has) this.#changes.emit("", this.value)
  }

  /** Tells one of them alone what there is, if there is anything. */
  tell(listener: (state: never) => void): void {
    if (this.has) this.#changes.tell(listener, this.value)
  }

  drop(): void {
    this.value = undefined
    this.has = false
  }

  subscribe(listener: (state: never) => void): Undo {
    return this.#changes.on("", listener)
  }

  /** Forgets state and subscribers. Their undos stay harmless. */
  clear(): void {
    this.#changes.clear()
    this.drop()
  }
}

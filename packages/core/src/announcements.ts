import type { Failures } from "./failures.ts"
import type { Grants } from "./grants.ts"
import type { Limits } from "./limits.ts"
import type { MeshMessage } from "./mesh-messages.ts"
import type { Clock } from "./ports.ts"
import { Resend } from "./resend.ts"
import type { Slot } from "./slot.ts"
import type { Store } from "./store.ts"

/**
 * The pointers of homes: a POP that has become the owner tells the actor's home (HOMEUPD), again until that has it on its disk. Off the path
 * of a move; a home that has not heard yet costs a search one more hop.
 */
export interface AnnouncementPorts {
  readonly pop: string
  readonly clock: Clock
  readonly limits: Limits
  readonly store: Pick<Store, "learn">
  readonly grants: Grants
  readonly failures: Failures
  send(pop: string, message: MeshMessage): boolean
}

export class Announcements {
  readonly #o: AnnouncementPorts
  readonly #resend: Resend

  constructor(ports: AnnouncementPorts) {
    this.#o = ports
    const { clock, limits, send } = ports
    this.#resend = new Resend(clock, limits, (actor, { to, e }) => {
      send(to, { t: "HOMEUPD", actor, e })
    })
  }

  announce({ id, home }: Slot, e: number): void {
    const { pop, send } = this.#o
    if (home === pop || e <= 0) return
    this.#resend.add(id, { to: home, e })
    send(home, { t: "HOMEUPD", actor: id, e })
  }

  confirmed(from: string, actor: string, e: number): void {
    this.#resend.confirmed(actor, from, e)
  }

  /** This POP is the home. Who owns the actor has installed it, which ends a grant to it as a CONFIRM does. */
  learn(from: string, actor: string, e: number): void {
    const { store, grants, failures, send } = this.#o
    store.learn(actor, from, e).then((learnt) => {
      if (learnt.e === e) grants.arrived(from, actor, e)
      if (learnt.e >= e) send(from, { t: "HOMEUPD_ACK", actor, e })
    }, failures.logged(actor))
  }

  linkUp(pop: string): void {
    this.#resend.hurry(pop)
  }

  /** That POP is given up: its heir is told by who gives it up (`forget.ts`), and by the next claim. */
  forget(pop: string): void {
    this.#resend.forget(pop)
  }

  stop(): void {
    this.#resend.stop()
  }
}

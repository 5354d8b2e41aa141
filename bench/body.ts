const letters = "abcdefghijklmnopqrstuvwxyz234567"
const piece = Array.from({ length: 1_024 }, (_, i) => letters[(i * i + (i >> 5)) % 32]).join("")

/** Text of so many bytes, a multiple of 1,024: the same for whoever stores it. */
export function bodyOf(bytes: number): string {
  return piece.repeat(bytes / piece.length)
}

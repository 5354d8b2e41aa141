/**
 * Round trips from coordinates, for test clusters: light in fibre goes at two thirds of its speed in vacuum, and cables are longer than the
 * great circle. A factor of 1.4 over it is near what public looking glasses show between large cities.
 */
export interface Coordinates {
  /** Degrees north and east. */
  readonly lat: number
  readonly lon: number
}

const earthRadiusKm = 6371.0088
const lightKmPerMs = 299.792458
export const fibreShare = 2 / 3
export const routeFactor = 1.4

/** Length of the shortest way over the surface (haversine formula, on a sphere). */
export function greatCircleKm(a: Coordinates, b: Coordinates): number {
  const rad = Math.PI / 180
  const lat = ((b.lat - a.lat) * rad) / 2
  const lon = ((b.lon - a.lon) * rad) / 2
  const h = Math.sin(lat) ** 2 + Math.cos(a.lat * rad) * Math.cos(b.lat * rad) * Math.sin(lon) ** 2
  return 2 * earthRadiusKm * Math.asin(Math.min(1, Math.sqrt(h)))
}

/** There and back between two places, ms. */
export function lineRttMs(a: Coordinates, b: Coordinates): number {
  return ((2 * greatCircleKm(a, b)) / (lightKmPerMs * fibreShare)) * routeFactor
}

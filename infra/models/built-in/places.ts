/** Which time zone a place is in: the tz database's own city names, and the other names people use. Pure. */

/** Places that the tz database does not name a zone after. */
const otherNames: Readonly<Record<string, string>> = {
  utc: 'UTC',
  gmt: 'UTC',
  'san francisco': 'America/Los_Angeles',
  seattle: 'America/Los_Angeles',
  california: 'America/Los_Angeles',
  boston: 'America/New_York',
  miami: 'America/New_York',
  washington: 'America/New_York',
  nyc: 'America/New_York',
  houston: 'America/Chicago',
  montreal: 'America/Toronto',
  'rio de janeiro': 'America/Sao_Paulo',
  uk: 'Europe/London',
  england: 'Europe/London',
  germany: 'Europe/Berlin',
  munich: 'Europe/Berlin',
  hamburg: 'Europe/Berlin',
  france: 'Europe/Paris',
  italy: 'Europe/Rome',
  milan: 'Europe/Rome',
  spain: 'Europe/Madrid',
  barcelona: 'Europe/Madrid',
  switzerland: 'Europe/Zurich',
  geneva: 'Europe/Zurich',
  kyiv: 'Europe/Kiev',
  japan: 'Asia/Tokyo',
  osaka: 'Asia/Tokyo',
  china: 'Asia/Shanghai',
  beijing: 'Asia/Shanghai',
  india: 'Asia/Kolkata',
  kolkata: 'Asia/Kolkata',
  delhi: 'Asia/Kolkata',
  'new delhi': 'Asia/Kolkata',
  mumbai: 'Asia/Kolkata',
  bangalore: 'Asia/Kolkata',
  korea: 'Asia/Seoul',
  'south korea': 'Asia/Seoul',
  vietnam: 'Asia/Ho_Chi_Minh',
  'abu dhabi': 'Asia/Dubai',
};

const zones: ReadonlyMap<string, string> = new Map([
  ...Intl.supportedValuesOf('timeZone').flatMap((zone): [string, string][] => {
    const city = zone.slice(zone.lastIndexOf('/') + 1).replaceAll('_', ' ');
    return [
      [zone.toLowerCase(), zone],
      [city.toLowerCase(), zone],
    ];
  }),
  ...Object.entries(otherNames),
]);

/** The IANA name of the zone that `place` is in (`Tokyo`, `asia/tokyo`, `UTC`); null when it is not known. */
export function timeZoneOf(place: string): string | null {
  const name = place
    .toLowerCase()
    .replaceAll('_', ' ')
    .replace(/^the /, '')
    .replace(/[?.!\s]{1,20}$/, '')
    .trim();
  return (
    zones.get(name) ?? zones.get(name.replaceAll(' ', '_')) ?? zones.get(name.split(',')[0] ?? '') ?? null
  );
}

/** `npm run endpoints`: writes the table of endpoints into the README. */
import { endpointTables } from './endpoint-table.ts';
import { writeSection } from './readme.ts';

writeSection('endpoints', endpointTables());

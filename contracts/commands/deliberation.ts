/** The commands of the Council and its deliberations. Ids are made by whoever issues the command. */
import { z } from 'zod';
import { councilMember, deliberationPurpose, material, memberName } from '../events/deliberation.ts';

/** Rounds, and uses of tools, that a deliberation may have at most. */
export const MAX_LOOPS = 50;
export const MAX_TOOL_USES = 100;
export const DEFAULT_LOOPS = 3;
export const DEFAULT_TOOL_USES = 20;
/** Members of a council, and pieces of material of a topic. */
export const MAX_MEMBERS = 12;
export const MAX_MATERIAL = 50;
/** In UTF-16 code units; what is longer is refused. */
export const MAX_TOPIC = 32_000;
export const MAX_MATERIAL_TEXT = 64_000;

const wellFormed = (text: string): boolean => text.isWellFormed();
const LONE_SURROGATE = 'holds a lone surrogate, which is not valid Unicode';
/** Text of so many characters at most, that says something. */
export const saying = (what: string, maximum: number) =>
  z
    .string()
    .trim()
    .min(1, `the ${what} is empty`)
    .max(maximum, `the ${what} has at most ${maximum.toLocaleString('en')} characters`)
    .refine(wellFormed, LONE_SURROGATE);

export const deliberationId = z
  .string()
  .regex(/^delib_[0-9a-f]{24}$/, 'a deliberation id is delib_ and 24 hexadecimal digits');
export const sessionId = z
  .string()
  .regex(/^session_[0-9a-f]{24}$/, 'a session id is session_ and 24 hexadecimal digits');
export const sessionMode = z.enum(['standard', 'expert_discussion', 'research']);

export const maxLoops = z.int().min(1).max(MAX_LOOPS);
export const maxToolUses = z.int().min(0).max(MAX_TOOL_USES);
const topic = saying('topic', MAX_TOPIC);

export const newMaterial = material.extend({
  id: z.string().min(1).max(100),
  title: z.string().max(500).refine(wellFormed, LONE_SURROGATE),
  text: z
    .string()
    .max(MAX_MATERIAL_TEXT, `material has at most ${MAX_MATERIAL_TEXT.toLocaleString('en')} characters`)
    .refine(wellFormed, LONE_SURROGATE),
});

/**
 * `plan` and `result` judge an agent's work. Their material with the id (or else the title) `task` is what was asked
 * for; the rest is what is judged.
 */
export const openDeliberation = z.strictObject({
  deliberationId,
  owner: z.string(),
  topic,
  purpose: deliberationPurpose,
  material: z
    .array(newMaterial)
    .max(MAX_MATERIAL)
    .refine((all) => new Set(all.map(({ id }) => id)).size === all.length, 'two pieces have the same id'),
  /** As `membersOf` gave them. */
  members: z.array(councilMember).min(1).max(MAX_MEMBERS),
  maxLoops,
  maxToolUses,
  sessionId: sessionId.nullable(),
  mode: sessionMode,
});
/** `at`: now (RFC 3339). */
export const requestDeliberationStop = z.strictObject({ deliberationId, at: z.iso.datetime() });

// ── the Council ───────────────────────────────────────────────────────────
const ofCouncil = { owner: z.string() };
export const memberFields = {
  displayName: saying('display name', 60),
  role: saying('role', 200),
  personality: saying('personality', 2_000),
  instructions: saying('instructions', 8_000),
  avatarEmoji: saying('avatar', 16),
  color: z.string().regex(/^#[0-9a-fA-F]{6}$/, 'a colour is # and six hexadecimal digits'),
  order: z.int().min(0).max(1_000),
  active: z.boolean(),
};
/** What is left out stays as it is; of a new member, it is made up, except its role and instructions. */
export const changeMember = z.strictObject({
  ...ofCouncil,
  name: memberName,
  changes: z.strictObject(memberFields).partial(),
  /** Whether there may be none of this name yet. */
  create: z.boolean(),
});
export const removeMember = z.strictObject({ ...ofCouncil, name: memberName });
/** `name` null: the whole council, without members that were added. */
export const resetCouncil = z.strictObject({ ...ofCouncil, name: memberName.nullable() });

export const startSession = z.strictObject({
  ...ofCouncil,
  sessionId,
  deliberationId,
  task: topic,
  mode: sessionMode,
});
export const requestSessionStop = z.strictObject({ ...ofCouncil, sessionId });
export const endSession = z.strictObject({
  ...ofCouncil,
  sessionId,
  outcome: z.enum(['completed', 'stopped', 'failed']),
});

/** Finding agents: what surfaces and processes ask of the agents' read model. */
import type { Caller } from '../caller.ts';
import type { Budget } from '../events/agent.ts';
import type { Run, RunTrigger } from '../events/conversation.ts';
import type { AgentDocument, TurnDocument } from './documents.ts';

/** How an agent is asked to run. What it is allowed, its definition says: this only narrows it. */
export interface RunRequest {
  readonly trigger: RunTrigger;
  /** The turn that asks for it. */
  readonly parent?: Run['parent'];
  readonly orchestrationId?: string | null;
  /** Of the agent's own tools, those that may be used; null: all of them. */
  readonly tools?: readonly string[] | null;
  readonly timeoutMs?: number | undefined;
  /** Calls of a model. The lesser of this and the budgets' counts. */
  readonly maxTurns?: number | undefined;
  readonly budget?: Partial<Budget> | undefined;
}

/** A turn that an agent answers: Trinity's execution. */
export type Execution = TurnDocument & { readonly run: NonNullable<TurnDocument['run']> };
export const isExecution = (turn: TurnDocument): turn is Execution => turn.run !== null;

export interface AgentsFilter {
  /** Only those of this owner (`system`: the ready-made ones), as far as the caller may see them. */
  readonly owner?: string | undefined;
  readonly limit: number;
  readonly offset: number;
}

export interface Agents {
  /**
   * The agent that answers to the name: the caller's own, else a shared one, else a ready-made one that has the
   * name as an alias; where there are several, the oldest. Who may see everything finds others' private ones
   * where there is none of these.
   * @throws Refusal NOT_FOUND
   */
  find(caller: Caller, name: string): Promise<AgentDocument>;
  /** The agent with the id that the caller may use. @throws Refusal NOT_FOUND */
  get(caller: Caller, agentId: string): Promise<AgentDocument>;
  /** The shared agent that answers to the name for whoever has no own one of it; null when there is none. */
  shared(name: string): Promise<AgentDocument | null>;
  /** The caller's own and the shared ones, or all for who may see everything; oldest first. */
  list(caller: Caller, filter: AgentsFilter): Promise<readonly AgentDocument[]>;
  /**
   * The execution with the id that the caller may see, if it is the named agent's: whatever became of the agent
   * since, its name then is its name.
   * @throws Refusal NOT_FOUND
   */
  execution(caller: Caller, name: string, id: string): Promise<Execution>;
  /** What a message is sent with that the agent is to answer. Pure. */
  runOf(agent: AgentDocument, request: RunRequest): Run;
}

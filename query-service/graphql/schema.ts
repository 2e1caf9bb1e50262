/** Agent Chat's GraphQL schema (seeds/agent-chat.txt, api-notes A3). */

export const LONGEST_LIST = 100;
export const MESSAGES_BY_DEFAULT = 50;

export const typeDefs = /* GraphQL */ `
  type Query {
    "Your conversations, the one that changed last first. Those who may see everything see everybody's."
    conversations(limit: Int = 20, offset: Int = 0, archived: Boolean = false): [Conversation!]!
    "Null when there is none that you may see."
    conversation(id: ID!): Conversation
    "Conversations with messages that mean what is asked for, or say it in these words; the best first. Their messages are those that were found, best first."
    searchConversations(query: String!, limit: Int = 10, minScore: Float = 0): [Conversation!]!
    "Of your runs of the agent (for those who may see everything: of all). By its name or id."
    agentHealth(agentId: ID!): AgentHealth!
    "The agents that you may use, the oldest first."
    agents(limit: Int = 20, offset: Int = 0): [Agent!]!
    "Your runs of agents, the latest first."
    executions(agentId: ID, limit: Int = 20, offset: Int = 0): [Execution!]!
    "Null when there is none that you may see."
    execution(id: ID!): Execution
  }

  type Mutation {
    "Sends a message, and answers with the answer once it is complete. With stream, answers at once with the answer's id and no content: messageStream brings that, from lastSeq = seq."
    sendMessage(input: MessageInput!): Message!
    createConversation(title: String, model: String): Conversation!
    renameConversation(id: ID!, title: String!): Conversation!
    "True when it is gone."
    deleteConversation(id: ID!): Boolean!
    "Stops the answer that is being written. True when one was."
    interrupt(conversationId: ID!): Boolean!
  }

  type Subscription {
    "The answers of a conversation, piece by piece: from now on, with what there is of one that is being written; or from after lastSeq, the seq of a chunk."
    messageStream(conversationId: ID!, lastSeq: String): MessageChunk!
    "How far your runs of the agent are. By its name or id."
    agentProgress(agentId: ID!, lastSeq: String): AgentProgress!
    orchestrationProgress(orchestrationId: ID!, lastSeq: String): AgentProgress!
  }

  input MessageInput {
    "Without one, a conversation is begun."
    conversationId: ID
    content: String!
    "A provider's model, a route (nano, pro, tools) or an agent (agent:researcher)."
    model: String
    stream: Boolean = false
    "Your own id of the message: sent again with it, it is not sent twice."
    id: ID
  }

  type Conversation {
    id: ID!
    title: String
    createdAt: String!
    updatedAt: String!
    messageCount: Int!
    model: String!
    status: String!
    archived: Boolean!
    "How well its best message fits what was searched for, from 0 to 1; null where nothing was."
    relevanceScore: Float
    "The latest ones (or what a search found), at most limit, oldest first."
    messages(limit: Int = ${MESSAGES_BY_DEFAULT}): [Message!]!
  }

  type Message {
    id: ID!
    conversationId: ID!
    turnId: ID!
    role: String!
    content: String!
    "Who really answered; null for a user's message."
    model: String
    provider: String
    timestamp: String!
    "complete, interrupted, failed, or running."
    status: String!
    "Why it failed."
    error: String
    "Of an answer."
    usage: Usage
    "US dollars; null where the price is not known."
    costUsd: Float
    "Where the answer begins, for messageStream; null but for one that was asked for with stream."
    seq: String
  }

  type Usage {
    promptTokens: Int!
    completionTokens: Int!
    totalTokens: Int!
  }

  type MessageChunk {
    "Of the answer's message."
    id: ID!
    token: String!
    finished: Boolean!
    "Who writes; null until that is known."
    model: String
    conversationId: ID!
    "Where a subscription goes on that begins after this chunk."
    seq: String!
    "Forget the tokens of this answer so far: it begins anew."
    restarted: Boolean
    "How it ended: complete, interrupted or failed."
    status: String
    "Why it failed."
    error: String
    "Said first where lastSeq is not of this log: why the subscription begins anew."
    resync: String
  }

  type Agent {
    id: ID!
    name: String!
    description: String!
    model: String
    shared: Boolean!
    createdAt: String!
  }

  type AgentHealth {
    "healthy; degraded when a tenth of the latest runs failed; unhealthy when half of them did."
    status: String!
    "Seconds for which this process has served it."
    uptime: Float!
    "Runs that were asked for."
    requestCount: Int!
    "Of the runs that ended, the part that failed, from 0 to 1."
    errorRate: Float!
    "Of the latest runs, a hundred at most."
    metrics: AgentMetrics!
  }

  type AgentMetrics {
    "Milliseconds from the start of a run to its end, on average."
    latency: Float!
    "Runs that ended within the last hour, a minute."
    throughput: Float!
    "Tokens, of prompts and answers."
    tokenUsage: Int!
  }

  type Execution {
    id: ID!
    agentId: ID!
    agentName: String!
    conversationId: ID!
    "queued, running, completed, interrupted or failed."
    status: String!
    trigger: String!
    message: String!
    "Null until it has ended."
    response: String
    error: String
    requestedAt: String!
    startedAt: String
    endedAt: String
    usage: Usage
    costUsd: Float
  }

  type AgentProgress {
    agentId: ID!
    "The execution, or the orchestration."
    taskId: ID!
    "From 0 to 1, which is when it has ended."
    progress: Float!
    status: String!
    message: String!
    seq: String!
    "Said first where lastSeq is not of this log: why the subscription begins anew."
    resync: String
  }
`;

/** Users, for those who manage them and for the check of credentials. */
import { type UserDocument, userDocument } from '../contracts/read-models/documents.ts';
import { projection } from './projection.ts';

/** A change to a user who never registered (the log does not hold such) makes no document. */
const change =
  <Event>(to: (event: Event) => Partial<UserDocument>) =>
  (document: UserDocument | null, event: Event): UserDocument | null =>
    document && { ...document, ...to(event) };

const owner = (event: { readonly owner: string }) => event.owner;

export const users = projection<UserDocument>('users', {
  version: 1,
  document: userDocument,
  indexes: [['createdAt']],
  on: {
    UserRegistered: {
      id: owner,
      apply: (_document, { owner, time, data: { email, displayName, role } }) => ({
        id: owner,
        email,
        displayName,
        role,
        disabled: false,
        passwordChangedAt: null,
        createdAt: time,
      }),
    },
    UserRoleChanged: { id: owner, apply: change(({ data }) => ({ role: data.role })) },
    UserDisabled: { id: owner, apply: change(() => ({ disabled: true })) },
    UserEnabled: { id: owner, apply: change(() => ({ disabled: false })) },
    UserPasswordChanged: { id: owner, apply: change(({ time }) => ({ passwordChangedAt: time })) },
  },
});

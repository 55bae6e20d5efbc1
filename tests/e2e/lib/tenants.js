// Tenants and keys of a test's server.
import assert from 'node:assert/strict';
import path from 'node:path';

import { fakeEngine, model } from './environment.js';

/** Where the models and engines of tests lie. */
export const sources = [path.dirname(model), path.dirname(fakeEngine)];

export async function makeTenant(server, name, spec = {}) {
  const answer = await server.call('POST', '/admin/v1/tenants', { apiVersion: 'thaw/v1', kind: 'Tenant', metadata: { name }, spec: { sources, ...spec } });
  assert.equal(answer.status, 201, answer.text);
}

export async function setTenant(server, name, spec = {}) {
  const answer = await server.call('PUT', `/admin/v1/tenants/${name}`, { apiVersion: 'thaw/v1', kind: 'Tenant', metadata: { name }, spec: { sources, ...spec } });
  assert.equal(answer.status, 200, answer.text);
}

/** {key, id} of a new key; `tenant` '': of the default one. */
export async function makeKey(server, tenant, body) {
  const answer = await server.call('POST', `/admin/v1/keys${tenant ? `?tenant=${tenant}` : ''}`, body);
  assert.equal(answer.status, 201, answer.text);
  return { key: answer.json.key, id: answer.json.id };
}

/** server.call with another key; null: without one. */
export function callAs(server, key, method, url, body) {
  return server.call(method, url, body, { authorization: key === null ? '' : `Bearer ${key}` });
}

// As much of JSON Schema as the OpenAPI document uses for bodies, and stricter in one thing: a member that no schema names is an error, so that nothing is
// answered that is not documented.

const typeOf = (value) => (value === null ? 'null' : Array.isArray(value) ? 'array' : Number.isInteger(value) ? 'integer' : typeof value);
const known = new Set(['type', 'properties', 'required', 'items', 'additionalProperties', '$ref', 'anyOf']);

/** What is wrong with `value`: a list of "path: what". */
export function mistakes(value, schema, document, path = '$') {
  for (const key of Object.keys(schema)) if (!known.has(key)) throw new Error(`${path}: this validator does not know "${key}"`);
  if (schema.$ref) {
    const name = schema.$ref.replace('#/components/schemas/', '');
    const target = document.components.schemas[name];
    return target ? mistakes(value, target, document, path) : [`${path}: there is no ${schema.$ref}`];
  }
  if (schema.anyOf) {
    const tries = schema.anyOf.map((one) => mistakes(value, one, document, path));
    return tries.some((found) => found.length === 0) ? [] : tries[0];
  }
  if (schema.type === undefined) return [];
  const types = [schema.type].flat();
  const type = typeOf(value);
  if (!types.includes(type) && !(type === 'integer' && types.includes('number'))) return [`${path}: is ${type}, not ${types}`];
  if (type === 'array' && schema.items) return value.flatMap((one, n) => mistakes(one, schema.items, document, `${path}[${n}]`));
  if (type !== 'object' || (!schema.properties && !schema.additionalProperties)) return [];
  const found = (schema.required ?? []).filter((key) => !(key in value)).map((key) => `${path}.${key}: is missing`);
  for (const [key, member] of Object.entries(value)) {
    const of = schema.properties?.[key] ?? schema.additionalProperties;
    found.push(...(of ? mistakes(member, of, document, `${path}.${key}`) : [`${path}.${key}: is in no schema`]));
  }
  return found;
}

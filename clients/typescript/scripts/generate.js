/**
 * Writes `src/api.ts`, the types of the HTTP API, from `docs/openapi.json` and `docs/problems.md`.
 *
 *     node scripts/generate.js           # writes the file
 *     node scripts/generate.js --check   # fails if the file differs
 *
 * Not openapi-typescript: it needs the compiler API of TypeScript 5, and names operations by `operationId`, which is not
 * unique in this document. Anything in the document that this script does not know is an error, never `any`.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const file = (path) => fileURLToPath(new URL(path, import.meta.url));
const API = file('../src/api.ts');

const document = JSON.parse(readFileSync(file('../../../docs/openapi.json'), 'utf8'));
const { schemas } = document.components;

/** Parts of a schema that say what is valid and not what its type is. */
const WITHOUT_TYPE = [
  'description', 'example', 'format', 'default', 'pattern', 'minimum', 'maximum', 'minLength', 'maxLength',
];

/** Fails if a schema has parts that this script would ignore. */
function expectOnly(schema, ...known) {
  const unknown = Object.keys(schema).filter((key) => !known.includes(key) && !WITHOUT_TYPE.includes(key));
  if (unknown.length) throw new Error(`cannot express ${unknown.join(', ')} of ${JSON.stringify(schema).slice(0, 200)}`);
}

function comment({ description, example, default: usual }, indent = '') {
  const lines = (description ?? '').trim().split('\n').filter((line, at, all) => line || all[at - 1]);
  if (example !== undefined) lines.push('', `@example ${JSON.stringify(example)}`);
  if (usual !== undefined && usual !== null) lines.push('', `@default ${JSON.stringify(usual)}`);
  const text = lines.join('\n').trim().replaceAll('*/', '* /').split('\n');
  if (!text[0]) return '';
  if (text.length === 1) return `${indent}/** ${text[0]} */\n`;
  return `${indent}/**\n${text.map((line) => `${indent} * ${line}`.trimEnd()).join('\n')}\n${indent} */\n`;
}

function nameOf(reference) {
  const name = reference.replace('#/components/schemas/', '');
  if (!(name in schemas)) throw new Error(`${reference} does not exist`);
  return name.startsWith('Page_') ? `Page<${name.slice('Page_'.length)}>` : name;
}

/** The type of a schema, as an expression. */
function typeOf(schema, indent = '') {
  if (schema.$ref) {
    expectOnly(schema, '$ref');
    return nameOf(schema.$ref);
  }
  if (schema.oneOf) {
    expectOnly(schema, 'oneOf');
    return schema.oneOf.map((one) => typeOf(one, indent)).join(' | ');
  }
  if (schema.enum) {
    expectOnly(schema, 'enum', 'type');
    return schema.enum.map((value) => `'${value}'`).join(' | ');
  }
  if (Array.isArray(schema.type)) return schema.type.map((type) => typeOf({ ...schema, type }, indent)).join(' | ');
  switch (schema.type) {
    case undefined:
      expectOnly(schema);
      return 'unknown';
    case 'string': case 'boolean': case 'null':
      return schema.type;
    case 'integer': case 'number':
      return 'number';
    case 'array':
      return `Array<${typeOf(schema.items, indent)}>`;
    case 'object':
      if (schema.properties) return membersOf(schema, indent);
      expectOnly(schema, 'type', 'additionalProperties', 'propertyNames');
      return `Record<string, ${typeOf(schema.additionalProperties ?? {}, indent)}>`;
    default:
      throw new Error(`cannot express the type ${schema.type}`);
  }
}

function membersOf(schema, indent = '') {
  expectOnly(schema, 'type', 'properties', 'required', 'additionalProperties');
  const members = Object.entries(schema.properties ?? {}).map(([name, member]) => {
    const isRequired = schema.required?.includes(name);
    // A reference that may be null has its comment on the reference.
    const said = member.description ? member : { ...member, description: member.oneOf?.[0].description };
    return `${comment(said, `${indent}  `)}${indent}  ${name}${isRequired ? '' : '?'}: ${typeOf(member, `${indent}  `)};\n`;
  });
  return `{\n${members.join('')}${indent}}`;
}

/** A schema as a declaration. `allOf` is an interface that extends others. */
function declare(name, schema) {
  const said = comment(schema);
  if (schema.allOf) {
    expectOnly(schema, 'allOf');
    // The first part of a profile is there for backends only. All its members are optional, so it is one as well.
    const bases = schema.allOf.map((part) => part.$ref ?? part.oneOf?.find((one) => one.$ref)?.$ref).filter(Boolean);
    const own = schema.allOf.filter((part) => part.properties);
    if (bases.length + own.length !== schema.allOf.length || own.length > 1) throw new Error(`cannot express ${name}`);
    return `${said}export interface ${name} extends ${bases.map(nameOf).join(', ')} ${own[0] ? membersOf(own[0]) : '{}'}\n`;
  }
  if (schema.properties) return `${said}export interface ${name} ${membersOf(schema)}\n`;
  return `${said}export type ${name} = ${typeOf(schema)};\n`;
}

/** The members of a page are the same for all lists. Only the type of its items differs. */
function declarePage() {
  const page = schemas.Page_Transition;
  const names = Object.keys(page.properties).join();
  if (names !== 'items,nextCursor') throw new Error(`a page has the members ${names}`);
  const { items, nextCursor } = page.properties;
  return `${comment(page)}export interface Page<Item> {\n${comment(items, '  ')}  items: Item[];\n`
    + `${comment(nextCursor, '  ')}  nextCursor?: string | null;\n}\n`;
}

const BODIES = {
  'application/json': ({ schema }) => typeOf(schema),
  'image/svg+xml': () => 'string',
  'image/png': () => 'Blob',
  'text/event-stream': () => 'ReadableStream',
  'application/x-ndjson': () => 'ReadableStream',
};

function answerOf(responses) {
  const success = Object.entries(responses).filter(([status]) => status.startsWith('2'));
  const types = success.map(([, { content = {} }]) => {
    const [type] = Object.keys(content);
    if (!type) return 'undefined';
    if (!(type in BODIES)) throw new Error(`cannot express an answer of ${type}`);
    return BODIES[type](content[type]);
  });
  return [...new Set(types)].join(' | ');
}

/** The parameters of an operation that are in its path, or in its query, as one type. */
function parametersOf({ parameters = [] }, place) {
  const found = parameters.filter((parameter) => parameter.in === place);
  const properties = Object.fromEntries(found.map(({ name, description, schema }) => {
    const type = schema.$ref ? { oneOf: [schema] } : schema;
    return [name, { ...type, description: description ?? schema.description }];
  }));
  const required = found.filter((parameter) => parameter.required).map(({ name }) => name);
  return found.length ? membersOf({ properties, required }, '    ') : 'undefined';
}

function declareOperation([path, method, operation]) {
  const content = operation.requestBody?.content['application/json'];
  const body = content ? typeOf(content.schema, '    ') : 'undefined';
  return `${comment({ description: operation.summary }, '  ')}  '${method.toUpperCase()} ${path}': {\n`
    + `    path: ${parametersOf(operation, 'path')};\n    query: ${parametersOf(operation, 'query')};\n`
    + `    body: ${body};\n    answer: ${answerOf(operation.responses)};\n  };\n`;
}

/** The catalogue of problems, from the table at the head of its document. */
function problemCodes() {
  const catalogue = readFileSync(file('../../../docs/problems.md'), 'utf8');
  const codes = [...catalogue.matchAll(/^\| \[`([a-z-]+)`\]\(#\1\) \| \d{3} \|/gm)].map(([, code]) => code);
  const sections = catalogue.match(/^## /gm)?.length;
  if (!codes.length || codes.length !== sections) throw new Error('docs/problems.md has another form');
  return codes;
}

const operations = Object.entries(document.paths)
  .filter(([path]) => !path.startsWith('/webhooks/'))
  .flatMap(([path, item]) => Object.entries(item).map(([method, operation]) => [path, method, operation]));

const declarations = Object.entries(schemas)
  .filter(([name]) => !name.startsWith('Page_'))
  .map(([name, schema]) => declare(name, schema));

const generated = `/**
 * The types of the HTTP API. Written by scripts/generate.js from docs/openapi.json and docs/problems.md: do not edit.
 *
 * Times are RFC 3339 in UTC. Identifiers are strings.
 */

${declarations.join('\n')}
${declarePage()}
/** Every operation, except those that providers call: what it takes, and what its successful answer contains. */
export interface Operations {
${operations.map(declareOperation).join('')}}

/** Every \`code\` of a problem document. */
export const PROBLEM_CODES = [
${problemCodes().map((code) => `  '${code}',\n`).join('')}] as const;

/** The \`code\` of a problem document, from the closed catalogue in docs/problems.md. */
export type ProblemCode = (typeof PROBLEM_CODES)[number];
`;

if (process.argv.includes('--check')) {
  if (readFileSync(API, 'utf8') !== generated) {
    console.error('src/api.ts differs from the documents that it is generated from. Run: npm run generate');
    process.exit(1);
  }
} else {
  writeFileSync(API, generated);
}

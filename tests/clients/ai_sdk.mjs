// Runs the agent loop of the AI SDK with one of its providers: node ai_sdk.mjs PROVIDER MODEL...
// Prints {"MODEL": {"generate": TEXT, "stream": TEXT}} with the final text or the error of each way.
import { generateText, stepCountIs, streamText, tool } from "ai";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createGoogleGenerativeAI } from "@ai-sdk/google";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;
const { GATEWAY_URL: url, GATEWAY_KEY: apiKey } = process.env;
const baseURL = `${url}/v1`;
const providers = {
  chat: (model) => createOpenAI({ baseURL, apiKey }).chat(model),
  responses: (model) => createOpenAI({ baseURL, apiKey }).responses(model),
  anthropic: (model) => createAnthropic({ baseURL, apiKey })(model),
  google: (model) => createGoogleGenerativeAI({ baseURL: `${url}/v1beta`, apiKey })(model),
  compatible: (model) => createOpenAICompatible({ name: "gateway", baseURL, apiKey, includeUsage: true })(model),
};
const thinking = {
  anthropic: { anthropic: { thinking: { type: "enabled", budgetTokens: 2000 } } },
  google: { google: { thinkingConfig: { includeThoughts: true } } },
  responses: { openai: { reasoningSummary: "auto", store: false, include: ["reasoning.encrypted_content"] } },
};
const tools = {
  get_weather: tool({
    description: "Returns the weather of a city.",
    inputSchema: z.object({ city: z.string(), unit: z.enum(["c", "f"]).optional() }),
    execute: async () => ({ weather: "TOOL-RAN-42" }),
  }),
};

async function generate(request) {
  return (await generateText(request)).text;
}

async function stream(request) {
  const errors = [];
  const result = streamText({ ...request, onError: ({ error }) => errors.push(String(error)) });
  await result.consumeStream();
  return errors.length ? errors.join(" ") : await result.text;
}

const [name, ...models] = process.argv.slice(2);
const results = {};
for (const model of models) {
  const request = {
    model: providers[name](model),
    providerOptions: thinking[name],
    tools,
    stopWhen: stepCountIs(6),
    maxRetries: 0,
    maxOutputTokens: 8000,
    system: "Be brief.",
    prompt: "What is the weather?",
  };
  results[model] = {};
  for (const run of [generate, stream]) {
    results[model][run.name] = await run(request).catch((error) => `${error} ${error.responseBody ?? ""}`);
  }
}
console.log(JSON.stringify(results));

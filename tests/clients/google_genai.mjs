// Runs two questions in a chat of Google's SDK: node google_genai.mjs MODEL...
// Prints {"MODEL": {"generate": TEXT, "stream": TEXT}} with both final texts or the error of each way.
import { GoogleGenAI } from "@google/genai";

const { GATEWAY_URL: baseUrl, GATEWAY_KEY: apiKey } = process.env;
console.warn = console.error; // Only the results belong to the standard output.
const google = new GoogleGenAI({ apiKey, httpOptions: { baseUrl } });
const declaration = {
  name: "get_weather",
  description: "Returns the weather of a city.",
  parametersJsonSchema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
};
const config = {
  systemInstruction: "Be brief.",
  tools: [{ functionDeclarations: [declaration] }],
  thinkingConfig: { includeThoughts: true },
};

async function generate(chat, message) {
  const response = await chat.sendMessage({ message });
  return { text: response.text ?? "", calls: response.functionCalls ?? [] };
}

async function stream(chat, message) {
  const turn = { text: "", calls: [] };
  for await (const chunk of await chat.sendMessageStream({ message })) {
    turn.text += chunk.text ?? "";
    turn.calls.push(...(chunk.functionCalls ?? []));
  }
  return turn;
}

async function ask(chat, send, question) {
  let turn = await send(chat, question);
  while (turn.calls.length) {
    const results = turn.calls.map(({ id, name }) => ({
      functionResponse: { id, name, response: { weather: "TOOL-RAN-42" } },
    }));
    turn = await send(chat, results);
  }
  return turn.text;
}

const results = {};
for (const model of process.argv.slice(2)) {
  results[model] = {};
  for (const send of [generate, stream]) {
    const chat = google.chats.create({ model, config });
    const run = async () => (await ask(chat, send, "What is the weather?")) + (await ask(chat, send, "And now?"));
    results[model][send.name] = await run().catch(String);
  }
}
console.log(JSON.stringify(results));

// Made-up older chats of an account, so that the chat list is as long as a real one. Their phone numbers are from
// ranges that regulators reserve for fiction.

import { harsh } from "./generation.js";

const NAMES = [
  "Aunt Rosa", "Badminton Tuesday", "Ben Okafor", "Book club", "Carla Mendes", "Chloé Martin", "Daniel Weiss",
  "Dentist Dr. Alami", "Dima", "Elif Yılmaz", "Emma Johansson", "Family", "Farid", "Flat 4B", "Garden neighbours",
  "Giulia Rossi", "Grandpa Joe", "Hannah", "Ines Duarte", "Jonas Berg", "Julia & Tom", "Kwame Mensah",
  "Laundry rota", "Lena", "Liam O’Brien", "Lucía Fernández", "Marek 12345678", "Marta Nowak", "Mum", "Nadia Haddad",
  "Noah", "Olivia Chen", "Parents of 3a", "Paulo +55 21 99876-5432", "Plumber 101-202", "Priya Raman", "Quentin",
  "Ravi 2024-2025", "Running group", "Sakura Ito", "Sofia", "Sunday hikers", "Tariq", "Theo", "Uncle Bob",
  "Vera Petrova", "Wei Zhang", "Yusuf", "Zoë", "שירה לוי", "+44 7700 900123",
];
const GROUPS = new Set([
  "Badminton Tuesday", "Book club", "Family", "Flat 4B", "Garden neighbours", "Laundry rota", "Parents of 3a",
  "Running group", "Sunday hikers",
]);
const LINES = [
  "See you tomorrow!", "Thanks 🙏", "On my way", "Can you call me later?", "Happy birthday 🎉🎂",
  "The train is late again", "Did you get the keys?", "👍", "Let me check and come back to you.",
  "Dinner at eight?", "Sounds good to me", "I sent it this morning", "What time does it start?", "Ok!",
  "Photos from Saturday are in the album", "מה שלומך?",
];

const MINUTE = 60_000;

/** Messages other than plain texts in a harsh page's chats, chosen by their place from the end. */
const ODD = [
  { kind: "deleted" }, { kind: "call" }, { quote: "Shall we meet?" }, { kind: "event" }, { kind: "poll" },
  { kind: "image" }, { kind: "notice", mine: false, ack: null }, { starred: true }, { mine: true, ack: -1 },
  { kind: "image", mine: true, ack: 2 },
];
/** Titles of people whose number is masked, of a business, and of a group that has a number as its name. */
const MASKED = {
  Dima: "+49 ∙∙∙ ∙∙∙∙89", Elif: "@elif.y", Noah: "Noah’s Bakery ✓",
  "Sunday hikers": "+44 7700 900555",
};

/** Returns the chats, as model.js describes them; each a little older than the one before, all before `now`. */
export function fillerChats(now) {
  return NAMES.map((title, number) => {
    const group = GROUPS.has(title);
    const phone = group ? `1203630000000000${10 + number}` : `4477009000${10 + number}`;
    const { at, text, mine, ack } = fillerMessages({ number }, now).at(-1);
    return { phone, title: harsh ? MASKED[title] ?? title : title, number, group, at, text, mine, ack };
  });
}

/** Returns the messages of one such chat, oldest first. They are older than the profile and not stored in it. */
export function fillerMessages(chat, now) {
  const length = 6 + ((chat.number * 37) % 90);
  return Array.from({ length }, (_, index) => {
    const back = length - index;
    const mine = (index + chat.number) % 3 === 0;
    const odd = harsh && back % 3 === 2 ? ODD[(back + chat.number) % ODD.length] : {};
    return {
      n: index - length,
      id: `3EB0${String(chat.number).padStart(4, "0")}${String(index).padStart(12, "0")}`,
      text: LINES[(back * 7 + chat.number * 5) % LINES.length],
      mine,
      at: now - (chat.number + 1) * 97 * MINUTE - back * 23 * MINUTE,
      ack: mine ? 3 : null,
      ...odd,
    };
  });
}

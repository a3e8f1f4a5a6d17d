/** Proposes the browser's timezone for a new project. */
const select = document.querySelector("[data-guess-timezone]");
const guess = Intl.DateTimeFormat().resolvedOptions().timeZone;

if (select && [...select.options].some((option) => option.value === guess)) select.value = guess;

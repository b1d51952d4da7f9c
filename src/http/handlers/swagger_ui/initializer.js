function matching(groups, phrase) {
  return groups
    .map(function (group, tag) {
      return group.update("operations", function (operations) {
        return operations.filter(function (entry) {
          return holds(phrase, [tag, entry.get("method"), entry.get("path"), entry.getIn(["operation", "summary"], "")]);
        });
      });
    })
    .filter(function (group) { return group.get("operations").size > 0; });
}

function holds(phrase, parts) {
  var text = parts.join(" ").toLowerCase();
  return phrase.toLowerCase().split(/\s+/).every(function (word) { return text.includes(word); });
}

// Swagger UI shows the events, which are the document's `webhooks`, whatever is filtered.
function matchingEvents(original, system) {
  return function () {
    var events = original(), phrase = system.layoutSelectors.currentFilter();
    if (!events || typeof phrase !== "string") return events;
    return Object.fromEntries(Object.entries(events).filter(function (event) {
      var summaries = event[1].map(function (entry) { return entry.operation.get("summary", ""); });
      return holds(phrase, ["webhooks", event[0]].concat(summaries));
    }));
  };
}

// Swagger UI takes every media type with "json" in its name for one document, and quotes the text of an example.
function showLines() {
  var sample = this.fn.getSampleSchema;
  this.fn.getSampleSchema = function (schema, mediaType, options, example) {
    if (/ndjson/.test(mediaType) && typeof example === "string") return example;
    return sample(schema, mediaType, options, example);
  };
}

window.onload = function () {
  window.ui = SwaggerUIBundle({
    url: "../openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    displayRequestDuration: true,
    persistAuthorization: false,
    tryItOutEnabled: true,
    filter: true,
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
    onComplete: function () {
      window.ui.oas3Actions.setSelectedServer(".");
      var box = document.querySelector(".operation-filter-input");
      if (box) box.placeholder = "Filter by path or words, such as: post candidates";
    },
    plugins: [function () {
      var spec = { wrapSelectors: { selectWebhooksOperations: matchingEvents } };
      return { fn: { opsFilter: matching }, statePlugins: { spec: spec }, afterLoad: showLines };
    }],
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout"
  });
};
